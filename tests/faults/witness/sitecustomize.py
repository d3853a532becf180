"""Writes down, from inside workers and children, what they do and when: evidence that is not the records.

Python imports this file by its name in every process whose PYTHONPATH leads here. In a worker, an attempt's
child or a converter it wraps a few functions of the product as their modules are imported; everywhere else it
does nothing. Each line of the journal is one write to a file opened with O_APPEND, so lines of different
processes never mix, and none is lost when its writer is killed.

A few things it changes besides looking on. Phases of milliseconds (a checkpoint, each gap of a publication)
are widened by a random pause, so that a kill can land in them. Where PYTHON_FAULTS_HOLDS names a folder, the
first process that comes to a point of which a file lies there stands still at it (see `hold`). With
PYTHON_FAULTS_PRELOAD a process becomes itself again with that library loaded, which a worker would not pass
on. And with PYTHON_FAULTS_CONTROL a child no longer leaves when its lease is over: the negative control,
which must lead to overlaps.

Nothing of TensorFlow or of the product is imported here.
"""

import contextlib
import functools
import importlib.abc
import json
import os
import random
import signal
import sys
import threading
import time

ALIVE_EVERY_S = 0.025
LONGEST_PAUSE_S = 0.3
LONGEST_HOLD_S = 120
LEFT_ALONE = 75  # the exit code of a child whose supervisor fell silent

rename = os.rename  # as it is before anything is wrapped

# Names that begin with PYTHON: of the worker's environment its children inherit these.
JOURNAL = os.environ.get("PYTHON_FAULTS_JOURNAL")
HOLDS = os.environ.get("PYTHON_FAULTS_HOLDS")
PRELOAD = os.environ.get("PYTHON_FAULTS_PRELOAD")
CONTROL = bool(os.environ.get("PYTHON_FAULTS_CONTROL"))
SLOW_STEP_S = float(os.environ.get("PYTHON_FAULTS_SLOW_STEP_S", "0"))


def role():
    """Which of the witnessed processes this is, by its command line; None for any other."""
    modules = [word for word in sys.orig_argv[1:] if word.startswith(("service.", "exporter."))]
    if not modules or modules[0] == "service.init" or (modules[0] == "service.api" and HOLDS is None):
        return None
    known = {"service.api": "api", "service.worker": "worker", "exporter.child": "converter"}
    return known.get(modules[0], "child")


class Witness:
    """What this process, or this thread of a worker, is doing."""

    def __init__(self, path, who):
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._who = who
        self._job, self._attempt = None, None
        self._phases = []
        self._random = random.Random(os.getpid())

    def write(self, what, **facts):
        line = {
            "t": time.clock_gettime(time.CLOCK_BOOTTIME),
            "pid": os.getpid(),
            "who": self._who,
            "what": what,
            "job": self._job,
            "attempt": self._attempt,
            "phase": self._phases[-1] if self._phases else None,
            **facts,
        }
        os.write(self._fd, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    @contextlib.contextmanager
    def attempt(self, job, attempt):
        """Everything in here belongs to this attempt."""
        self._job, self._attempt = job, attempt
        try:
            yield
        finally:
            self._job, self._attempt = None, None

    @contextlib.contextmanager
    def phase(self, name):
        self._phases.append(name)
        self.write("enter")
        try:
            yield
        finally:
            self._phases.pop()
            self.write("leave", left=name)

    def turn(self, name):
        """The phase that goes on until the next one: its end is not marked."""
        if self._phases[-1:] != [name]:
            self._phases[-1:] = [name]
            self.write("enter")

    def turn_in(self, name):
        """A phase within the present one, until `turn_out`."""
        self._phases.append(name)
        self.write("enter")

    def turn_out(self, name):
        if self._phases[-1:] == [name]:
            self._phases.pop()
            self.write("leave", left=name)

    def inside(self, name):
        return name in self._phases

    def hold(self, point):
        """Stand still where somebody asked for it by a file of this name, until it is gone or we are.

        `<point>` is for whoever comes first, `<point>@<job>` for that job. One process alone gets to rename
        the file, so one alone is held.
        """
        if HOLDS is None:
            return
        for name in (point, f"{point}@{self._job}"):
            held = f"{HOLDS}/{name}.held"
            try:
                rename(f"{HOLDS}/{name}", held)
            except FileNotFoundError:
                continue
            self._stand_still(name, held)

    def _stand_still(self, name, held):
        self.write("held", point=name)
        until = time.monotonic() + LONGEST_HOLD_S
        while os.access(held, os.F_OK) and time.monotonic() < until:
            time.sleep(0.01)

    def pause(self):
        """Widen what is being done."""
        time.sleep(self._random.uniform(0, LONGEST_PAUSE_S))

    def maybe_pause(self):
        if self._random.random() < 0.25:
            self.pause()


class PerThread(threading.local):
    """A worker's slots are threads, each with an attempt of its own."""

    def __init__(self):
        self.witness = Witness(JOURNAL, "worker")


def wrapping(owner, name, around):
    """Replace `owner.name` by `around(original, *arguments)`."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args, **kwargs):
        return around(original, *args, **kwargs)

    setattr(owner, name, wrapped)


def patches_of_child(witness):
    def stay_alive(over):
        while not over.wait(ALIVE_EVERY_S):
            witness.write("alive")

    def run(original, order, channel):
        over = threading.Event()
        with witness.attempt(order.job_id, order.attempt), witness.phase("starting"):
            witness.write("begin", ppid=os.getppid())
            witness.hold("begin")
            beating = threading.Thread(target=stay_alive, args=(over,), daemon=True)
            beating.start()
            try:
                outcome = original(order, channel)
                over.set()
                beating.join()
                witness.write("end")
                return outcome
            finally:
                over.set()
                beating.join()

    def train_begin(original, callbacks, *args, **kwargs):
        witness.turn("training")
        return original(callbacks, *args, **kwargs)

    def batch_end(original, callbacks, *args, **kwargs):
        witness.write("step")
        time.sleep(SLOW_STEP_S)
        return original(callbacks, *args, **kwargs)

    def test_begin(original, callbacks, *args, **kwargs):
        # Keras evaluates before training, too; that is no validation.
        if witness.inside("training"):
            witness.turn_in("validating")
            witness.hold("validating")
        return original(callbacks, *args, **kwargs)

    def test_end(original, callbacks, *args, **kwargs):
        witness.turn_out("validating")
        return original(callbacks, *args, **kwargs)

    def save(original, *args, **kwargs):
        with witness.phase("checkpointing"):
            witness.hold("checkpointing")
            witness.maybe_pause()
            return original(*args, **kwargs)

    def reach_disk(original, *args, **kwargs):
        result = original(*args, **kwargs)
        if witness.inside("checkpointing"):
            witness.write("disk", call=original.__name__)
            witness.hold("disk")
            witness.maybe_pause()
        return result

    def export(original, *args, **kwargs):
        witness.turn("exporting")
        witness.hold("exporting")
        return original(*args, **kwargs)

    def seal(original, *args, **kwargs):
        witness.hold("sealing")
        return original(*args, **kwargs)

    def ask(original, converter, request, **kwargs):
        if request["do"] != "prove":
            return original(converter, request, **kwargs)
        with witness.phase("proving"):
            return original(converter, request, **kwargs)

    wrapping(os, "fsync", reach_disk)
    wrapping(os, "rename", reach_disk)
    return {
        "service.kinds.train": lambda module: wrapping(module, "run", run),
        "keras.src.callbacks.callback_list": lambda module: (
            wrapping(module.CallbackList, "on_train_begin", train_begin),
            wrapping(module.CallbackList, "on_train_batch_end", batch_end),
            wrapping(module.CallbackList, "on_test_begin", test_begin),
            wrapping(module.CallbackList, "on_test_end", test_end),
        ),
        "trainer.resume": lambda module: wrapping(module.Checkpoints, "save", save),
        "exporter.export": lambda module: wrapping(module, "export", export),
        "exporter.converter": lambda module: wrapping(module.Converter, "ask", ask),
        "serving.store": lambda module: wrapping(module.Store, "seal", seal),
    }


def patches_of_converter(witness):
    def convert(original, *args, **kwargs):
        witness.hold("converting")
        return original(*args, **kwargs)

    def run(original, *args, **kwargs):
        witness.hold("proving")
        return original(*args, **kwargs)

    return {
        "exporter.formats.tflite": lambda module: wrapping(module, "convert", convert),
        "exporter.proof": lambda module: wrapping(module, "run", run),
    }


def patches_of_api(witness):
    def ask(original, *args, **kwargs):
        witness.hold("bell")
        return original(*args, **kwargs)

    return {"service.queue": lambda module: wrapping(module.Ringer, "ask", ask)}


def patches_of_worker(threads):
    def complete(original, claim, *args, **kwargs):
        witness = threads.witness
        with witness.attempt(claim.job.id, claim.job.attempt), witness.phase("publishing"):
            return original(claim, *args, **kwargs)

    def reserve(original, *args, **kwargs):
        number = original(*args, **kwargs)
        threads.witness.write("reserved", number=number)
        threads.witness.hold("reserved")
        threads.witness.pause()
        return number

    def publish(original, *args, **kwargs):
        folder = original(*args, **kwargs)
        threads.witness.write("renamed", folder=folder.name)
        threads.witness.hold("renamed")
        threads.witness.pause()
        return folder

    def published(original, records, claim, **kwargs):
        witness = threads.witness
        if witness.inside("publishing"):
            done = original(records, claim, **kwargs)
        else:  # an attempt that finds its predecessor's version renamed
            with witness.attempt(claim.job.id, claim.job.attempt), witness.phase("publishing"):
                witness.write("found", number=kwargs.get("number"))
                witness.pause()
                done = original(records, claim, **kwargs)
        witness.write("marked", done=done)
        return done

    return {
        "service.kinds.train": lambda module: wrapping(module, "complete", complete),
        "service.records.versions": lambda module: (
            wrapping(module.VersionRecords, "reserve", reserve),
            wrapping(module.VersionRecords, "published", published),
        ),
        "serving.store": lambda module: wrapping(module.Store, "publish", publish),
    }


class Patching(importlib.abc.MetaPathFinder):
    """Patches modules right after they were executed, before whoever imports them sees them."""

    def __init__(self, patches, witness):
        self._patches, self._witness = patches, witness

    def find_spec(self, name, path, target=None):
        patch = self._patches.get(name)
        if patch is None:
            return None
        found = (each.find_spec(name, path, target) for each in sys.meta_path if each is not self)
        spec = next(filter(None, found), None)
        if spec is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            try:
                patch(module)
            except AttributeError as error:
                # The harness ends on this line: what is not witnessed proves nothing.
                self._witness.write("unwitnessed", name=name, error=str(error))
                raise

        spec.loader.exec_module = exec_module
        return spec


def outlive_the_lease():
    """Let this child go on when its lease is over or its supervisor is gone."""
    leave = os._exit

    def stay(code):
        if code != LEFT_ALONE:
            leave(code)

    os._exit = stay
    signal.setitimer = lambda *_: (0.0, 0.0)


def main():
    if PRELOAD and os.environ.get("LD_PRELOAD") != PRELOAD:
        os.environ["LD_PRELOAD"] = PRELOAD
        os.execv(sys.executable, sys.orig_argv)
    who = role()
    if who is None:
        return
    witness = Witness(JOURNAL, who)
    witness.write("process", ppid=os.getppid())
    if who == "worker":
        sys.meta_path.insert(0, Patching(patches_of_worker(PerThread()), witness))
    elif who == "child":
        if CONTROL:
            outlive_the_lease()
        sys.meta_path.insert(0, Patching(patches_of_child(witness), witness))
    elif who == "converter":
        sys.meta_path.insert(0, Patching(patches_of_converter(witness), witness))
    elif who == "api":
        sys.meta_path.insert(0, Patching(patches_of_api(witness), witness))


if JOURNAL:
    main()
