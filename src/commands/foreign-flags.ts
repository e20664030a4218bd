const TIME = "leave it out: the log says how much of the time goes into waiting for data";
const SEGMENTS = "leave it out: segment labels are not supported, whole videos are classified";
const SEVERAL_DEVICES = "leave it out: one device computes";

/** Flags of PaddleVideo (1.5, 1.8 and 2.x) and of google/youtube-8m that have another name or no equivalent here, and what to do instead. */
export const FOREIGN_FLAGS: Readonly<Record<string, string>> = {
  // PaddleVideo
  "--no-memory-optimize": "leave it out: memory is always reused",
  "--is-profiler": TIME,
  "--profiler-path": TIME,
  "--profiler-options": TIME,
  "-p": TIME,
  "--video-path": "use --filelist, with a list of TFRecord shards or a glob that matches them",
  "--enable-ce": "use --fix-random-seed True (runs are seeded anyway), or a number to choose the seed",
  "--validate": "leave it out: train validates after each epoch; --valid-interval says how often",
  "--test": "use the command nextvlad eval",
  "--amp": "use --precision tf32 on a GPU",
  "--fleet": SEVERAL_DEVICES,
  "--multigrid": "leave it out: it is for clips of pixels",
  "--train-dali": "leave it out: threads read ahead",
  // google/youtube-8m: train.py, eval.py, inference.py
  "--train-data-pattern": "use --set TRAIN.filelist='train*.tfrecord'",
  "--eval-data-pattern": "use --filelist 'validate*.tfrecord' in eval, --set VALID.filelist='validate*.tfrecord' in train",
  "--input-data-pattern": "use --filelist 'test*.tfrecord'",
  "--train-dir": "use --save-dir DIR in train, --weights DIR/best in eval and infer",
  "--output-file": "use --save-dir DIR, and --format csv for Kaggle's form",
  "--top-k": "use --infer-topk N in infer, --set MODEL.topk=N in eval",
  "--base-learning-rate": "use --learning-rate RATE",
  "--learning-rate-decay": "use --set TRAIN.learning_rate_decay=FACTOR",
  "--learning-rate-decay-examples": "use --set TRAIN.lr_boundary_examples=VIDEOS",
  "--num-epochs": "use --epoch N",
  "--max-steps": "use --set TRAIN.max_iter=STEPS",
  "--export-model-steps": "use --save-interval STEPS",
  "--num-readers": "use --set TRAIN.num_readers=THREADS in train, TEST.num_readers in eval, INFER.num_readers in infer",
  "--num-gpu": SEVERAL_DEVICES,
  "--optimizer": "leave it out: the optimizer is Adam",
  "--clip-gradient-norm": "use --set TRAIN.gradient_clip=NORM",
  "--regularization-penalty": "use --set TRAIN.l2_penalty=FACTOR",
  "--label-loss": "leave it out: the loss is the cross entropy",
  "--model": "leave it out: NeXtVLAD is the only model",
  "--frame-features": "leave it out: shards hold the features of frames",
  "--feature-names": "use --set 'MODEL.feature_names=[rgb, audio]'",
  "--feature-sizes": "use --set MODEL.video_feature_size=1024 --set MODEL.audio_feature_size=128",
  "--start-new-model": "use --overwrite",
  "--run-once": "leave it out: eval runs once",
  "--log-device-placement": "leave it out: the log says which device computes",
  "--segment-labels": SEGMENTS,
  "--segment-max-pred": SEGMENTS,
  "--segment-label-ids-file": SEGMENTS,
  "--input-model-tgz": "use --weights, with a snapshot",
  "--untar-model-dir": "use --weights, with a snapshot",
  "--output-model-tgz": "use the command nextvlad export",
};

/** Flags that are accepted and ignored, and why. */
export const IGNORED_FLAGS: Readonly<Record<string, string>> = {
  "--no-use-pyreader": "has no effect: threads always read ahead",
};
