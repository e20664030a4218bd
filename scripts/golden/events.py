"""Writes TensorBoard events as TensorBoard itself encodes them to test/golden/formats/events.json. Requires: pip install tensorboard."""
import json
import os

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

AT = {"wall_time": 1700000000.25, "step": 123456789012}


def summary(*values):
    return Event(**AT, summary=Summary(value=values))


histogram = HistogramProto(min=-1.5, max=2.5, num=4, sum=3.25, sum_squares=9.5, bucket_limit=[0.5, 2.5], bucket=[1, 3])
text = TensorProto(dtype=7, tensor_shape=TensorShapeProto(), string_val=["é: 1\n".encode()])
metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
events = {
    "version": Event(**AT, file_version="brain.Event:2"),
    "start": Event(**AT, session_log=SessionLog(status=SessionLog.START)),
    "scalars": summary(Summary.Value(tag="train/loss", simple_value=0.1), Summary.Value(tag="train/gap", simple_value=-2e30)),
    "histogram": summary(Summary.Value(tag="parameters/w", histo=histogram)),
    "text": summary(Summary.Value(tag="config", metadata=metadata, tensor=text)),
}
path = os.path.join(os.path.dirname(__file__), "../../test/golden/formats/events.json")
with open(path, "w", encoding="utf8") as file:
    json.dump({name: event.SerializeToString(deterministic=True).hex() for name, event in events.items()}, file, indent=1)
    file.write("\n")
