import json
import subprocess
import sys
from dataclasses import asdict

from trainer.environment import describe, settle_threads

# In a process of its own: threads can only be chosen before TensorFlow makes its context.
PROGRAM = """
import json
from dataclasses import asdict
import tensorflow as tf
from trainer.environment import describe, settle_threads
from tensorflow.python.eager import context
def settle(recorded, note):
    settle_threads(recorded)
    return describe("one device", recorded, note)

notes = []
recorded = asdict(settle(None, notes.append)) | {"intra_op_threads": 3, "inter_op_threads": 5}
before = settle(recorded, notes.append)
assert context.context()._context_handle is None, "settling touched a device"
tf.constant(1) + 1
after = settle(recorded | {"intra_op_threads": 7, "tensorflow": "2.1.0"}, notes.append)
config = context.context().config
print(json.dumps({
    "before": asdict(before), "after": asdict(after), "notes": notes,
    "in effect": [config.intra_op_parallelism_threads, config.inter_op_parallelism_threads],
}))
"""


def settle(recorded, note):
    settle_threads(recorded)
    return describe("one device", recorded, note)


def test_recorded_threads_are_put_back_and_what_can_not_be_is_told():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert (found["before"]["intra_op_threads"], found["before"]["inter_op_threads"]) == (3, 5)
    assert found["in effect"] == [3, 5]
    assert found["after"]["intra_op_threads"] == 3
    (note,) = found["notes"]
    assert "may differ in their last bits" in note
    assert "intra_op_threads was 7, is 3; tensorflow was '2.1.0'" in note


def test_another_cpu_is_told_and_the_same_is_not():
    notes = []
    here = asdict(settle(None, notes.append))
    settle(here, notes.append)
    assert notes == []
    settle(here | {"cpu": "Z80"}, notes.append)
    assert len(notes) == 1
    assert f"cpu was 'Z80', is {here['cpu']!r}" in notes[0]


def test_the_threads_are_never_left_to_the_number_of_cores():
    here = settle(None, print)
    assert here.intra_op_threads > 0
    assert here.inter_op_threads > 0
