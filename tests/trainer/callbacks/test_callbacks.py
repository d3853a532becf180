import numpy as np
import pytest

from trainer.callback import CallbackContext, best_weights, callbacks

# Of Keras's arguments we leave out those that are the job's own, and take a schedule for a function.
REQUIRED = {"LearningRateScheduler": {"schedule": {"class_name": "CosineDecay", "config": {
    "initial_learning_rate": 0.1, "decay_steps": 10}}}}  # fmt: skip
OURS = {"ModelCheckpoint": {"save_weights_only"}, "LearningRateScheduler": {"schedule"}}


@pytest.mark.parametrize("name", sorted(callbacks()))
def test_options_and_defaults_are_those_of_keras(name):
    import inspect

    import keras

    ours = callbacks()[name].Options(**REQUIRED.get(name, {}))
    theirs = inspect.signature(getattr(keras.callbacks, name)).parameters
    left_out = OURS.get(name, set())
    expected = {key: theirs[key].default for key in type(ours).model_fields if key not in left_out}
    assert ours.model_dump(exclude=left_out) == expected


@pytest.fixture
def model():
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def after_epochs(module, model, context, losses, **options):
    """Run the callback's own hooks over the given losses, the weights being the number of the epoch."""
    callback = module.build(module.Options(monitor="loss", **options), context)
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, loss in enumerate(losses):
        model.set_weights([np.full_like(weight, epoch) for weight in model.get_weights()])
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {"loss": loss})
    return callback


@pytest.mark.parametrize(
    ("name", "options"),
    [("EarlyStopping", {"restore_best_weights": True}), ("ModelCheckpoint", {"save_best_only": True})],
)
def test_the_best_weights_survive_in_the_state(tmp_path, model, name, options):
    module, context = callbacks()[name], CallbackContext(tmp_path)
    before = after_epochs(module, model, context, [3, 1, 2], **options)
    state = module.state(before)

    (tmp_path / "elsewhere").mkdir()
    after = module.build(module.Options(monitor="loss", **options), CallbackContext(tmp_path / "elsewhere"))
    after.set_model(model)
    after.on_train_begin()
    module.restore(after, state)

    assert after.best == 1
    assert all((weight == 1).all() for weight in best_weights(module, after))
    assert all((weight == 2).all() for weight in model.get_weights())


def test_waiting_goes_on_where_it_was(tmp_path, model):
    module, context = callbacks()["EarlyStopping"], CallbackContext(tmp_path)
    state = module.state(after_epochs(module, model, context, [1, 2], patience=2))
    later = after_epochs(module, model, context, [], patience=2)
    module.restore(later, state)
    model.stop_training = False
    later.on_epoch_end(2, {"loss": 3})
    assert model.stop_training


@pytest.mark.parametrize("name", ["EarlyStopping", "ModelCheckpoint"])
def test_nothing_best_is_kept_unless_asked_for(tmp_path, model, name):
    module = callbacks()[name]
    callback = after_epochs(module, model, CallbackContext(tmp_path), [1, 2])
    assert best_weights(module, callback) is None
