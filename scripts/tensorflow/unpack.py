"""Extracts TensorFlow's libraries and headers, and CUDA's libraries, from their wheels.  usage: unpack.py WHEEL_DIR TARGET_DIR"""
import glob
import re
import sys
import zipfile

HEADERS = r"(tensorflow|tsl|xla|absl|google|ml_dtypes)/.*\.(h|inc)$|(unsupported/)?Eigen/"
WANTED = re.compile(rf"tensorflow/(libtensorflow_(cc|framework)\.so\.2$|include/({HEADERS}))|nvidia/.*/(lib|bin|nvvm)/")
for path in sorted(glob.glob(sys.argv[1] + "/*.whl")):
    with zipfile.ZipFile(path) as wheel:
        for member in wheel.infolist():
            if WANTED.match(member.filename):
                wheel.extract(member, sys.argv[2])
