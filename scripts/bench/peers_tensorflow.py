"""NeXtVLAD in TensorFlow (tf.function), for peers.py."""
import tensorflow as tf

VERSION = f"tensorflow {tf.__version__}"


class Network:
    def __init__(self, options, scale, offset):
        self.options = options
        self.training = options.mode == "train"
        self.scale, self.offset = tf.constant(scale), tf.constant(offset)
        self.trained = []
        self.widths = [features for features in (options.rgb, options.audio) if features > 0]
        self.aggregators = [self.make_aggregator(features) for features in self.widths]
        descriptors = sum(each["size"] * options.clusters for each in self.aggregators)
        self.hidden, self.hidden_norm = self.matrix(descriptors, options.hidden), self.norm(options.hidden)
        self.reduce, self.restore = self.matrix(options.hidden, options.bottleneck), self.matrix(options.bottleneck, options.hidden)
        self.gating_norm = self.norm(options.bottleneck)
        self.classify, self.classify_bias = self.matrix(options.hidden, options.classes), self.train_variable(tf.zeros(options.classes))

    def train_variable(self, value):
        variable = tf.Variable(value)
        self.trained.append(variable)
        return variable

    def matrix(self, rows, columns):
        return self.train_variable(tf.random.normal([rows, columns], stddev=(2 / rows) ** 0.5))

    def norm(self, width):
        moving = tf.Variable(tf.zeros(width), trainable=False), tf.Variable(tf.ones(width), trainable=False)
        return self.train_variable(tf.ones(width)), self.train_variable(tf.zeros(width)), *moving

    def make_aggregator(self, features):
        groups, clusters = self.options.groups, self.options.clusters
        expanded = self.options.expansion * features
        size = expanded // groups
        return {
            "size": size,
            "expand": (self.matrix(features, expanded), self.train_variable(tf.zeros(expanded))),
            "attend": (self.matrix(expanded, groups), self.train_variable(tf.zeros(groups))),
            "assign": self.matrix(expanded, groups * clusters),
            "centers": self.matrix(size, clusters),
            "cluster_norm": self.norm(groups * clusters),
            "descriptor_norm": self.norm(size * clusters),
        }

    def normalize(self, x, norm):
        """Batch norm over the first dimension; updates the moving statistics in training."""
        scale, shift, moving_mean, moving_variance = norm
        mean, variance = moving_mean, moving_variance
        if self.training:
            mean, variance = tf.nn.moments(x, [0])
            moving_mean.assign_sub(0.1 * (moving_mean - mean))
            moving_variance.assign_sub(0.1 * (moving_variance - variance))
        return tf.nn.batch_normalization(x, mean, variance, shift, scale, 1e-5)

    def aggregate(self, x, mask, weights):
        """Maps features [B, T, F] and a mask [B, T] to descriptors [B, P K]."""
        videos, frames, groups, clusters = self.options.batch, self.options.frames, self.options.groups, self.options.clusters
        x = tf.nn.bias_add(tf.reshape(x, [videos * frames, -1]) @ weights["expand"][0], weights["expand"][1])
        attention = tf.sigmoid(tf.nn.bias_add(x @ weights["attend"][0], weights["attend"][1]))
        attention = tf.reshape(attention, [videos, frames, groups]) * mask[..., None]
        logits = tf.reshape(self.normalize(x @ weights["assign"], weights["cluster_norm"]), [videos, frames * groups, clusters])
        a = tf.nn.softmax(logits) * tf.reshape(attention, [videos, frames * groups, 1])
        sums = tf.matmul(tf.reshape(x, [videos, frames * groups, weights["size"]]), a, transpose_a=True)
        descriptors = tf.nn.l2_normalize(sums - tf.reduce_sum(a, 1, keepdims=True) * weights["centers"], 1)
        return self.normalize(tf.reshape(descriptors, [videos, -1]), weights["descriptor_norm"])

    def logits(self, features, mask):
        x = tf.cast(features, tf.float32) * self.scale + self.offset
        parts = tf.split(x, self.widths, -1)
        h = tf.concat([self.aggregate(part, mask, weights) for part, weights in zip(parts, self.aggregators)], 1)
        if self.training:
            h = tf.nn.dropout(h, 0.5)
        h = self.normalize(h @ self.hidden, self.hidden_norm)
        h = h * tf.sigmoid(tf.nn.relu(self.normalize(h @ self.reduce, self.gating_norm)) @ self.restore)
        return tf.nn.bias_add(h @ self.classify, self.classify_bias)


class Adam:
    """Adam with TensorFlow's fused kernel, the fastest that it has."""

    def __init__(self, variables):
        self.variables = variables
        self.moments = [[tf.Variable(tf.zeros_like(each), trainable=False) for each in variables] for _ in range(2)]
        self.steps = tf.Variable(0.0, trainable=False)

    def apply(self, gradients):
        self.steps.assign_add(1.0)
        powers = {"beta1_power": tf.pow(0.9, self.steps), "beta2_power": tf.pow(0.999, self.steps)}
        for variable, gradient, m, v in zip(self.variables, gradients, *self.moments):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle, m=m.handle, v=v.handle, grad=gradient, lr=2e-4, beta1=0.9, beta2=0.999, epsilon=1e-8, **powers
            )


def make_step(options, batch):
    """Returns a function that takes a step, and one that reads its result."""
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    features, mask, labels, scale, offset = batch
    network = Network(options, scale, offset)
    adam = Adam(network.trained) if options.mode == "train" else None

    def train(features, mask, labels):
        with tf.GradientTape() as tape:
            entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=network.logits(features, mask))
            loss = tf.reduce_mean(tf.reduce_sum(entropy, 1))
            penalized = loss + 1e-5 * (tf.nn.l2_loss(network.classify) + tf.nn.l2_loss(network.classify_bias))
        adam.apply(tape.gradient(penalized, network.trained))
        return loss

    def infer(features, mask, labels):
        return tf.sigmoid(network.logits(features, mask))

    function = tf.function(train if options.mode == "train" else infer, jit_compile=options.framework == "tf-xla")
    inputs = [tf.constant(each) for each in (features, mask, labels)]
    return lambda: function(*inputs), lambda result: float(result.numpy().ravel()[0])
