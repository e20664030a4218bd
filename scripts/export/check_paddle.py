"""Checks that Paddle loads exported weights and predicts as nextvlad does.

usage: check_paddle.py OUT     (OUT is what make-case.js wrote; needs paddlepaddle==2.6.2, "numpy<2")

2.6.2 is the last Paddle whose static graph takes ragged (LoD) input, on which PaddleVideo's network is built. Operations that paddle.static no
longer offers are appended by their type, so that the graph is PaddleVideo v1.5.1's (PaddleCV/PaddleVideo/models/nextvlad).
"""
import json
import os
import sys

os.environ.setdefault("GLOG_minloglevel", "2")
import numpy as np
import paddle
from paddle import static
from paddle.base.layer_helper import LayerHelper

TOLERANCE = 1e-5
PLACE = paddle.CPUPlace()
paddle.enable_static()


def operation(kind, inputs, attributes=None, outputs=("Out",)):
    helper = LayerHelper(kind)
    results = [helper.create_variable_for_type_inference("float32") for _ in outputs]
    helper.append_op(
        type=kind,
        inputs={key: [value] for key, value in inputs.items()},
        outputs={key: [value] for key, value in zip(outputs, results)},
        attrs=attributes or {},
    )
    return results[0]


def reshape(x, shape):
    return operation("reshape2", {"X": x}, {"shape": shape}, ("Out", "XShape"))


def transpose(x, axes):
    return operation("transpose2", {"X": x}, {"axis": axes}, ("Out", "XShape"))


def elementwise(kind, x, y, axis=-1):
    return operation(f"elementwise_{kind}", {"X": x, "Y": y}, {"axis": axis})


def matmul(x, y):
    return operation("matmul", {"X": x, "Y": y}, {"transpose_X": False, "transpose_Y": False, "alpha": 1.0})


def sum_frames(x):
    return static.nn.sequence_lod.sequence_pool(x, "sum")


def dense(x, size, weight, bias=None, activation=None):
    return static.nn.fc(x, size, weight_attr=weight, bias_attr=False if bias is None else bias, activation=activation)


def aggregate(x, stream, features, model, testing):
    clusters, groups = model["cluster_size"], model["groups"]
    width = features * model["expansion"]
    expanded = dense(x, width, f"{stream}_fc_expansion_w", f"{stream}_fc_expansion_b")
    attention = dense(expanded, groups, f"{stream}_fc_group_attention_w", f"{stream}_fc_group_attention_b", "sigmoid")
    logits = matmul(expanded, static.create_parameter([width, groups * clusters], "float32", f"{stream}_cluster_weights"))
    logits = reshape(static.nn.batch_norm(logits, is_test=testing), [-1, groups, clusters])
    assignment = elementwise("mul", operation("softmax", {"X": logits}, {"axis": -1}), attention, 0)
    mass = operation("reduce_sum", {"X": sum_frames(assignment)}, {"dim": [1], "keep_dim": False, "reduce_all": False})
    centres = static.create_parameter([clusters, width // groups], "float32", f"{stream}_cluster_weights2")
    mass = operation("expand", {"X": reshape(mass, [-1, clusters, 1])}, {"expand_times": [1, 1, width // groups]})
    by_cluster = operation("lod_reset", {"X": transpose(assignment, [0, 2, 1]), "Y": assignment}, {"target_lod": [], "append": False})
    vlad = sum_frames(matmul(by_cluster, reshape(expanded, [-1, groups, width // groups])))
    vlad = transpose(elementwise("sub", vlad, elementwise("mul", mass, centres, 1)), [0, 2, 1])
    unit = operation("norm", {"X": vlad}, {"axis": 1, "epsilon": 1e-12}, ("Out", "Norm"))
    return static.nn.batch_norm(reshape(unit, [-1, width // groups * clusters]), is_test=testing)


def build(model, training):
    """The network's program, start-up program and probabilities; with Adam behind them in training."""
    main, startup = static.Program(), static.Program()
    with static.program_guard(main, startup), paddle.utils.unique_name.guard():
        rgb = static.data("rgb", [None, 1024], "uint8", lod_level=1)
        audio = static.data("audio", [None, 128], "uint8", lod_level=1)
        eigen = static.create_parameter([1024], "float32", attr=paddle.ParamAttr("eigen_param", trainable=False))
        x_rgb = elementwise("mul", paddle.scale(paddle.cast(rgb, "float32"), 4 / 255, -2.0), eigen)
        x_audio = paddle.scale(paddle.cast(audio, "float32"), 4 / 255, -2 + 4 / 512)
        x_rgb.stop_gradient = x_audio.stop_gradient = True
        streams = [aggregate(x_rgb, "video", 1024, model, not training), aggregate(x_audio, "audio", 128, model, not training)]
        dropout = {"dropout_prob": model["drop_rate"], "is_test": not training, "dropout_implementation": "downgrade_in_infer"}
        kept = operation("dropout", {"X": paddle.concat(streams, axis=1)}, dropout, ("Out", "Mask"))
        hidden = static.nn.batch_norm(dense(kept, model["hidden_size"], "hidden1_fc_weights"), is_test=not training)
        gate = dense(hidden, model["hidden_size"] // model["gating_reduction"], "gating_fc1_weights")
        gate = static.nn.batch_norm(gate, is_test=not training, act="relu")
        gated = elementwise("mul", hidden, dense(gate, model["hidden_size"], "gating_fc2_weights", activation="sigmoid"))
        logits = dense(gated, model["num_classes"], "logits_clf_weights", "logits_clf_bias")
        probabilities = operation("sigmoid", {"X": logits})
        if training:
            paddle.optimizer.Adam(1e-4).minimize(paddle.mean(probabilities))
    return main, startup, probabilities


def fresh(program, startup):
    """An executor whose variables hold what they start with: zeros, so that nothing of an earlier load remains."""
    executor = static.Executor(PLACE)
    executor.run(startup)
    for variable in persistables(program):
        tensor = static.global_scope().find_var(variable.name).get_tensor()
        tensor.set(np.zeros_like(np.array(tensor)), PLACE)
    return executor


def persistables(program):
    return [v for v in program.list_vars() if v.persistable and v.name not in ("feed", "fetch")]


def ragged(values, lengths):
    return paddle.base.create_lod_tensor(np.ascontiguousarray(values), [list(lengths)], PLACE)


def main():
    out = sys.argv[1]
    model = json.load(open(os.path.join(out, "snapshot/config.yaml")))["MODEL"]
    case = np.load(os.path.join(out, "case.npz"))
    lengths = case["frame_counts"].tolist()
    program, startup, probabilities = build(model, training=False)
    loads = {
        "W.pdparams, paddle.static.load": lambda executor: static.load(program, os.path.join(out, "W"), executor),
        "vars, paddle.static.io.load_vars": lambda executor: static.io.load_vars(
            executor, os.path.join(out, "vars"), program, persistables(program)
        ),
    }
    for what, load in loads.items():
        executor = fresh(program, startup)
        load(executor)
        feeds = {"rgb": ragged(case["rgb"], lengths), "audio": ragged(case["audio"], lengths)}
        (found,) = executor.run(program, feed=feeds, fetch_list=[probabilities])
        error = np.abs(found - case["probabilities"]).max()
        assert found.shape == case["probabilities"].shape and error < TOLERANCE, f"{what}: {error}"
        print(f"paddle {paddle.__version__}, {what}: largest difference {error:.1e}")
    check_optimizer(out, model)


def check_optimizer(out, model):
    """Paddle's own training program finds its whole state, but for the learning rate's variable, whose name 2.6.2 numbers."""
    program, startup, _ = build(model, training=True)
    fresh(program, startup)
    state = static.load_program_state(os.path.join(out, "W"))
    needed = {v.name for v in persistables(program)} - {"learning_rate_0"}
    assert needed <= set(state), f"missing: {sorted(needed - set(state))}"
    assert set(state) - needed == {"learning_rate", "@LR_DECAY_COUNTER@"}, sorted(set(state) - needed)
    static.set_program_state(program, {name: state[name] for name in needed})
    for name in needed:
        held = np.array(static.global_scope().find_var(name).get_tensor())
        saved = np.array(static.load_program_state(os.path.join(out, "vars"))[name]) if name == "hidden1_fc_weights" else state[name]
        assert held.dtype == saved.dtype and np.array_equal(held, saved.reshape(held.shape)), name
    step = int(state["@LR_DECAY_COUNTER@"][0]) + 1
    power = state["logits_clf_bias_beta2_pow_acc_0"][0]
    assert np.isclose(power, 0.999 ** (step + 1), rtol=1e-6, atol=0), power
    print(f"paddle {paddle.__version__}, W.pdopt: all {len(needed)} variables of a training program set, after step {step}")


main()
