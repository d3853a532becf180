"""What introductions to Keras teach about models, data and the loop, and where it is done here, as data."""

from __future__ import annotations

from dataclasses import dataclass

MODULE = "tests/topics/test_topics.py"
EXAMPLE_TEST = "test_example"


@dataclass(frozen=True)
class Topic:
    """One topic; `examples` are trained by EXAMPLE_TEST, `tests` check what else is said of them.

    `draws` is whether the page draws what was measured of the examples' pipelines, `exports` whether it lists
    what was measured of their artifacts.
    """

    name: str
    taught: str
    here: str
    examples: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    draws: bool = False
    exports: bool = False


TOPICS = (
    Topic(
        "Graphs and autodiff",
        "Keras runs eagerly if asked to, else `tf.function` traces a step once and reuses the graph; "
        "`GradientTape` records operations and differentiates backwards over the record.",
        "Steps are graphs. `compile.run_eagerly` runs a job without them, to look into it, and comes to "
        "the same answers; `compile.jit_compile` hands them to XLA. A step written with `GradientTape` "
        "comes as a [plugin](plugins.md).",
        ("eager", "xla", "gradient_loop"),
        ("test_a_job_run_eagerly_computes_what_its_graph_does", "test_xla_is_a_field_of_the_spec"),
    ),
    Topic(
        "Dense",
        "y = act(Wx + b), so (inputs + 1) · units parameters, and inputs · units without a bias; a layer "
        "is built from the first shape it sees.",
        "`POST /v1/models:inspect` counts without training: 32 features into `Dense(64)` are 2,112 "
        "parameters, 2,048 without bias; 4 → 8 → 3 are 67; 32 → 64 → 64 → 10 are 6,922; 784 → 128 → 128 →"
        " 10 are 118,282. It names the largest layer and the weights' bytes, and without a shape it says "
        "that nothing is built yet.",
        ("dense", "linear_regression"),
        (
            "test_dense_layers_have_the_parameters_of_the_formula",
            "test_a_dense_layer_without_a_shape_is_not_built_yet",
        ),
    ),
    Topic(
        "Three ways to a model",
        "Sequential for a chain; Functional for a graph with several inputs and outputs, skips and shared"
        " layers; subclassing where control flow depends on data. All are fitted, evaluated and asked "
        "alike.",
        "`model.kind` is `sequential` (a list of layers), `keras` (what `model.to_json()` writes) or "
        "`plugin` (a subclassed model that the operator installed). The same MLP, 20 → 64 → 32 → 5 with "
        "dropout 0.3, in each way and under one seed ends with the same weights and learning curves, to "
        "the bit.",
        ("mlp_sequential", "mlp_functional", "mlp_subclassed", "two_in_two_out", "shared_layers"),
        (
            "test_three_ways_to_a_model_end_with_the_same_weights_and_curves",
            "test_two_outputs_have_a_loss_each_and_weights_between_them",
            "test_a_shared_layer_has_its_weights_once",
        ),
    ),
    Topic(
        "Layers",
        "Dense, Conv2D, MaxPooling2D, GlobalAveragePooling2D, LSTM, GRU, Embedding, MultiHeadAttention, "
        "Flatten, Reshape.",
        "Every layer of Keras but those that carry code (`Lambda`) or read files, under its own name and "
        "with its own arguments. An Embedding takes the `index` of a category and the words of a text as "
        "`int`, whose numbers the job finds out and the version keeps.",
        ("convolution", "digits", "image_classifier", "lstm", "gru", "attention", "embedding"),
    ),
    Topic(
        "Activations",
        "relu, whose neurons can die; leaky_relu and elu as the cure; gelu; selu with lecun_normal; "
        "sigmoid, softmax, tanh, swish.",
        "Any, by name or as a layer. [Which output activation fits which loss](keras.md#output-and-loss).",
        ("activations", "breast_cancer"),
    ),
    Topic(
        "Regularization",
        "Dropout, SpatialDropout2D, BatchNormalization, LayerNormalization, L1, L2, clipnorm.",
        "Any: layers in the model, penalties in a layer's config, clipping in the optimizer's. What is "
        "random in training is not in serving.",
        ("regularization", "image_classifier"),
        ("test_what_is_random_in_training_is_not_in_serving",),
    ),
    Topic(
        "An image classifier",
        "32x32x3 images; blocks of Conv2D 32/64/128, BatchNormalization, pooling and SpatialDropout2D "
        "0.2/0.3; global average pooling, Dense 256 with L2, Dropout 0.5, softmax over 10 classes.",
        "A spec that is ready, with a cache and, behind it, random augmentation of the training rows. The"
        " figures are of a short run on 480 images: more rows and epochs make it better. Images may be an "
        "array, or PNG and JPEG files in one folder a class; then requests send files, too.",
        ("image_classifier", "image_folder"),
        ("test_the_image_classifier_beats_chance_on_new_images",),
    ),
    Topic(
        "tf.data",
        "map, shuffle(buffer), batch, prefetch(AUTOTUNE); cache after costly deterministic work and before"
        " random augmentation; TFRecord; parallel map.",
        "`data.pipeline` has what is to be chosen: `batch_size`, `shuffle`, `cache`, `augment`. The order of "
        "the stages is ours, and [always the right one](job-spec.md#pipeline): prepared, kept, shuffled, "
        "augmented, batched, each stage in parallel and ahead of the next; a layer that isn't random is "
        "refused in `augment`. `data.columns` is the map: numbers, categories, texts, dates and images, "
        "learnt from the training rows and served with the model. Rows in memory are shuffled all together, "
        "those on disk within a buffer. Sources are arrays, tables, JSON lines, TFRecord and folders of "
        "images.",
        ("support_requests", "tfrecord", "image_folder", "embedding"),
        (
            "test_augmentation_stays_behind_the_cache",
            "test_a_layer_that_is_not_random_is_refused_behind_the_cache",
            "test_rows_in_memory_and_on_disk_end_with_the_same_weights",
            "test_records_and_a_table_of_the_same_rows_end_with_the_same_weights",
            "test_raw_rows_are_asked_with_their_gaps_and_in_any_script",
        ),
    ),
    Topic(
        "The pipeline's law",
        "t_serial = t_input + t_compute; t_overlapped = max(t_input, t_compute): of 12 ms and 20 ms, 20 "
        "instead of 32. Utilization is t_compute / step. Profile first; where the input is the bottleneck "
        "only cheaper input helps.",
        "Every job is profiled while it trains, and [says under `pipeline`](job-spec.md#pipeline) which of "
        "the two is its limit, by how much, and what to do first. Below, as two jobs were measured: one that "
        "decodes its images in each epoch, and the same with a cache; both end with the same weights.",
        ("decode_each_epoch", "decode_once"),
        (
            "test_a_job_that_decodes_in_each_epoch_is_told_to_cache",
            "test_a_step_lies_between_the_bounds_of_the_law",
        ),
        draws=True,
    ),
    Topic(
        "Compile",
        "adam, sgd, rmsprop, adamw; sparse and one-hot categorical crossentropy, binary crossentropy, "
        "mse, mae; accuracy, AUC, Precision, Recall.",
        "All of Keras's, by name or as an object with `class_name` and `config`. Several labels at once are "
        "a list of columns, with sigmoid and binary crossentropy.",
        ("breast_cancer", "linear_regression", "robust_regression", "one_hot", "multi_label", "class_weight"),
        ("test_several_labels_may_be_true_at_once",),
    ),
    Topic(
        "Fit",
        "batch_size, epochs, validation_split (the last part of the rows) or validation data, shuffle, "
        "class_weight {0: 1, 1: 10}; History, learning curves and the best epoch.",
        "`fit` has the epochs and `class_weight`, `data` the batches and the parts: `validation_split`, "
        "`split`, or a set of its own as `validation`. A job shows the "
        "metrics of its last and its best epoch; its version keeps the curves as a table.",
        ("dense", "validation_data", "class_weight"),
        (
            "test_validation_split_takes_the_last_rows",
            "test_validation_data_are_a_set_of_their_own",
            "test_the_best_epoch_is_that_of_the_least_validation_loss",
            "test_class_weight_finds_more_of_a_rare_class",
        ),
    ),
    Topic(
        "Callbacks",
        "EarlyStopping(patience, min_delta, restore_best_weights), ModelCheckpoint(save_best_only), "
        "ReduceLROnPlateau(factor, patience, min_lr), TensorBoard(histogram_freq), CSVLogger, "
        "LambdaCallback.",
        "By name, with Keras's arguments; files are the job's, and come as artifacts. A LambdaCallback is "
        "code, which no spec carries: it comes with a [plugin](plugins.md).",
        ("callbacks", "gradient_loop"),
        (
            "test_callbacks_stop_slow_down_keep_and_write",
            "test_a_lambda_callback_is_refused_with_what_to_do",
            "test_a_lambda_callback_of_a_plugin_is_called_after_each_epoch",
        ),
    ),
    Topic(
        "Beyond fit",
        "Override `train_step` for GANs and contrastive losses and keep `fit`; write the whole loop only "
        "for several optimizers, gradient surgery or reinforcement learning.",
        "[Plugins](plugins.md): a `train_step`, several optimizers or a step by hand, while progress, "
        "checkpoints, cancel and exports stay ours.",
        ("gan", "contrastive", "gradient_loop", "two_tower"),
        (
            "test_a_gan_trains_two_networks",
            "test_contrastive_vectors_have_unit_length",
            "test_two_towers_take_users_and_items_by_name_as_integers",
        ),
    ),
    Topic(
        "Scaling",
        "Mixed precision, XLA, `tf.distribute.Strategy`, TPUs.",
        "`resources.precision`, `compile.jit_compile`, `resources.strategy` and slots of several devices."
        " What never ran on real hardware: [hardware](hardware.md).",
        ("mixed_bfloat16", "mixed_float16", "xla", "mirrored"),
        ("test_mixed_precision_ends_as_float32", "test_mirrored_asks_for_a_slot_of_several_devices"),
    ),
    Topic(
        "Keras 3",
        "One API over TensorFlow, JAX and PyTorch.",
        "TensorFlow is the backend; a field that chooses another is for later. [What that means for a "
        "spec](keras.md#backends).",
    ),
    Topic(
        "Saving",
        "SavedModel for production; `.keras` for checkpoints; H5 is legacy; weights only to resume; TFLite "
        "(int8 with representative data) for the edge; ONNX through tf2onnx for other runtimes; TF.js for "
        "the browser; sizes and latencies compared.",
        "The list [`export`](job-spec.md#export). Each artifact is loaded by its own runtime and held to the "
        "trained model's answers before anything is published; sizes and latencies are on record with each "
        "version. Rows of the training part calibrate int8. [Which architectures become which "
        "formats](formats.md).",
        ("saving",),
        (
            "test_saved_files_are_loaded_by_keras_alone",
            "test_weights_alone_go_on_in_a_model_that_is_built_again",
            "test_quantized_files_are_smaller_and_lose_little",
            "test_an_onnx_file_and_a_tflite_file_answer_by_the_signatures_names",
        ),
        exports=True,
    ),
    Topic(
        "Choosing",
        "PyTorch leads research; TensorFlow's reasons are the breadth of its deployment, TPUs, and Keras "
        "as a hedge.",
        "[The same, at more length](keras.md#choosing).",
    ),
)

EXAMPLES = tuple(dict.fromkeys(which for topic in TOPICS for which in topic.examples))
