"""What each model is: its names, its refusals, and its numbers against independent oracles."""

import inspect
import math
import subprocess
import sys

import keras
import numpy as np
import pytest
from support import multiply_adds
from support.published_models import PUBLISHED, agrees

from tfdist import models
from tfdist.models.catalog import MODELS

pytestmark = pytest.mark.core

# Depth, and millions of parameters in table 6 of He et al. 2015.
CIFAR = {
    "resnet20": (20, "0.27"),
    "resnet32": (32, "0.46"),
    "resnet44": (44, "0.66"),
    "resnet56": (56, "0.85"),
    "resnet110": (110, "1.7"),
}


def count(weights):
    return sum(math.prod(w.shape) for w in weights)


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def batchnorms(model):
    return [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]


def smallest(name, **options):
    side = 8 if name in ("mlp", "cnn", *CIFAR) else 32
    return models.build(name, classes=3, input_shape=(side, side, 1), **options)


@pytest.fixture
def dtype_policy():
    """Sets Keras' dtype policy; the one before comes back after the test."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


class TestTheRegistry:
    def test_names_are_read_and_checked_without_tensorflow_or_keras(self):
        code = (
            "import sys, tfdist.models as m; m.names(); m.check_name('cnn'); dir(m);"
            "print(sorted({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.strip() == "[]"

    def test_names_are_those_of_the_builders(self):
        assert all(getattr(models, name).__name__ == name for name in models.names())
        assert set(models.__all__) == {"build", "check_name", "names", *models.names()}

    def test_the_options_that_are_checked_without_keras_are_those_of_the_builders(self):
        for name, entry in MODELS.items():
            parameters = inspect.signature(getattr(models, name)).parameters.values()
            assert entry.options == tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    def test_a_builder_is_an_attribute_also_after_its_file_was_imported(self):
        models.build("mlp", classes=2, input_shape=(4,))
        assert all(callable(getattr(models, name)) for name in models.names())
        assert models.mlp(2, (4,)).output_shape == (None, 2)

    def test_another_attribute_is_refused(self):
        with pytest.raises(AttributeError, match=r"'tfdist\.models' has no attribute 'resnt50'"):
            _ = models.resnt50

    def test_an_unknown_name_is_refused_with_the_nearest_and_all_others(self):
        with pytest.raises(ValueError) as refused:
            models.build("resnt50", classes=10, input_shape=(32, 32, 3))
        assert str(refused.value) == (
            "models: no model is called 'resnt50'. Did you mean 'resnet50'? Known: mlp, cnn, "
            "resnet20, resnet32, resnet44, resnet56, resnet110, resnet18, resnet34, resnet50, resnet101, resnet152, "
            "vgg16, mobilenet_v2, efficientnet_b0, vit_ti16, vit_s16, vit_b16."
        )

    def test_a_name_like_none_gets_no_guess(self):
        with pytest.raises(ValueError, match=r"no model is called 'zzz'\. Known: mlp, cnn"):
            models.check_name("zzz")

    def test_an_unknown_option_is_refused_with_those_the_builder_takes(self):
        with pytest.raises(ValueError) as refused:
            models.build("resnet20", classes=10, input_shape=(32, 32, 3), weight_dekay=1e-4)
        assert str(refused.value) == (
            "models: resnet20 takes no option 'weight_dekay'. Did you mean 'weight_decay'? It takes: weight_decay."
        )

    @pytest.mark.parametrize("name", ["mlp", "cnn", "resnet32", "resnet34"])
    def test_the_model_carries_its_name_and_is_not_compiled(self, name):
        model = smallest(name)
        assert (model.name, model.compiled, model.output_shape) == (name, False, (None, 3))


class TestSizes:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", [name for name in MODELS if name not in CIFAR])
    def test_parameters_are_those_that_are_listed(self, name):
        # The multiply-adds take minutes: tests/full/model_sizes.py.
        entry = MODELS[name]
        model = models.build(name, classes=entry.classes, input_shape=entry.input_shape)
        assert (model.name, count(model.trainable_weights)) == (name, entry.parameters)

    @pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
    def test_the_listed_sizes_are_the_published_ones(self, name, published):
        assert agrees(MODELS[name].parameters, published.parameters, 1e6)
        assert published.multiply_adds is None or agrees(MODELS[name].multiply_adds, published.multiply_adds, 1e9)

    def test_every_model_of_others_has_a_published_size(self):
        assert set(PUBLISHED) == set(MODELS) - {"mlp", "cnn"}

    @pytest.mark.parametrize("name", ["mlp", "cnn"])
    def test_multiply_adds_are_counted_in_the_traced_prediction(self, name):
        entry = MODELS[name]
        model = models.build(name, classes=entry.classes, input_shape=entry.input_shape)
        assert multiply_adds.count(model) == entry.multiply_adds

    def test_multiply_adds_of_attention_are_those_of_the_formula(self):
        inputs = keras.Input((5, 8))
        x = keras.layers.MultiHeadAttention(2, 4)(inputs, inputs)
        x = keras.layers.DepthwiseConv2D(3, padding="same")(keras.layers.Reshape((5, 4, 2))(x))
        # Four matrices of 8 x 8 on 5 tokens, and 5 x 5 weights of 8 numbers twice; 9 weights of each of 40 numbers.
        assert multiply_adds.count(keras.Model(inputs, x)) == 4 * 5 * 8 * 8 + 2 * 5 * 5 * 8 + 9 * 40


class TestRefusals:
    @pytest.mark.parametrize("name", models.names())
    @pytest.mark.parametrize("classes", [1, 0, -3, 10.0, "10", True, None])
    def test_fewer_than_two_classes_are_refused(self, name, classes):
        with pytest.raises(ValueError) as refused:
            models.build(name, classes=classes, input_shape=(32, 32, 3))
        assert str(refused.value) == (f"models: {name}: classes is {classes!r}. Use a whole number of at least 2.")

    @pytest.mark.parametrize("shape", [(), 784, None, (None, 8, 1), (8, 8, 0), (8.0, 8, 1)])
    @pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20", "resnet50"])
    def test_a_shape_that_is_not_static_is_refused(self, name, shape):
        with pytest.raises(ValueError, match=f"models: {name}: input_shape is .*Give the shape"):
            models.build(name, classes=3, input_shape=shape)

    @pytest.mark.parametrize("name", ["cnn", "resnet20", "resnet50"])
    def test_images_without_channels_are_refused(self, name):
        with pytest.raises(ValueError) as refused:
            models.build(name, classes=3, input_shape=[28, 28])
        assert str(refused.value) == (
            f"models: {name}: input_shape is (28, 28), which has 2 dimension(s). "
            "Give (height, width, channels), without the batch."
        )

    @pytest.mark.parametrize(
        ("name", "options", "side"),
        [
            ("cnn", {}, 4),
            ("cnn", {"filters": (4, 4)}, 10),
            ("cnn", {"filters": (4, 4, 4)}, 22),
            ("resnet20", {}, 4),
            ("resnet18", {}, 32),
        ],
    )
    def test_an_image_one_pixel_too_small_is_refused(self, name, options, side):
        models.build(name, classes=3, input_shape=(side, side, 1), **options)
        with pytest.raises(ValueError, match=f"needs at least {side} x {side} pixels. Give larger"):
            models.build(name, classes=3, input_shape=(side, side - 1, 1), **options)

    @pytest.mark.parametrize("name", [name for name in MODELS if "weight_decay" in MODELS[name].options])
    @pytest.mark.parametrize("weight_decay", [-1e-4, float("nan"), float("inf"), "1e-4", None])
    def test_a_weight_decay_that_is_no_penalty_is_refused(self, name, weight_decay):
        with pytest.raises(ValueError, match=f"models: {name}: weight_decay is {weight_decay!r}"):
            smallest(name, weight_decay=weight_decay)

    def test_a_flag_given_as_text_is_refused(self):
        with pytest.raises(ValueError, match=r"batch_norm is 'False'\. Use True or False"):
            smallest("cnn", batch_norm="False")

    @pytest.mark.parametrize("hidden", [128, (0,), (12.5,), "128", None])
    def test_widths_that_are_no_counts_are_refused(self, hidden):
        with pytest.raises(ValueError, match="models: mlp: hidden is"):
            smallest("mlp", hidden=hidden)

    def test_a_cnn_without_convolutions_is_refused(self):
        with pytest.raises(ValueError, match=r"cnn: filters is \(\)\. Give at least one width"):
            smallest("cnn", filters=())


class TestProbabilities:
    @pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20", "resnet18"])
    @pytest.mark.parametrize(
        ("policy", "dtype"),
        [
            ("float32", "float32"),
            ("mixed_bfloat16", "float32"),
            ("mixed_float16", "float32"),
            ("float64", "float64"),
        ],
    )
    def test_they_sum_to_one_in_at_least_float32_under_any_policy(self, name, policy, dtype, dtype_policy):
        dtype_policy(policy)
        model = smallest(name)
        given = model(images(2, *model.input_shape[1:]), training=True)
        assert keras.backend.standardize_dtype(given.dtype) == dtype
        np.testing.assert_allclose(np.sum(given, axis=1), 1.0, atol=1e-6)

    @pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20", "resnet18"])
    def test_a_compiled_model_trains_on_class_numbers(self, name):
        keras.utils.set_random_seed(0)
        model = smallest(name)
        model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
        x, y = images(6, *model.input_shape[1:]), np.array([0, 1, 2, 0, 1, 2])
        losses = [model.train_on_batch(x, y)[0] for _ in range(6)]
        assert losses[-1] < losses[0]

    @pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20", "resnet18"])
    def test_a_saved_model_loads_in_plain_keras_and_gives_the_same(self, name, tmp_path):
        model = smallest(name)
        x = images(2, *model.input_shape[1:])
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(loaded(x), model(x))

    @pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20", "resnet18"])
    def test_one_seed_gives_one_set_of_weights_and_names(self, name):
        keras.utils.set_random_seed(7)
        first = smallest(name)
        keras.utils.set_random_seed(7)
        second = smallest(name)
        assert [w.path for w in first.weights] == [w.path for w in second.weights]
        for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


class TestMlp:
    def test_it_computes_what_numpy_does(self):
        model = models.mlp(3, (4, 5), hidden=(7, 6))
        x = images(2, 4, 5)
        k1, b1, k2, b2, k3, b3 = model.get_weights()
        h = np.maximum(x.reshape(2, 20) @ k1 + b1, 0)
        h = np.maximum(h @ k2 + b2, 0)
        odds = np.exp(h @ k3 + b3)
        np.testing.assert_allclose(model(x), odds / odds.sum(1, keepdims=True), rtol=1e-5)

    def test_without_hidden_layers_it_is_softmax_regression(self):
        assert count(models.mlp(3, (4, 5), hidden=()).weights) == 20 * 3 + 3


class TestCnn:
    @pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3)])
    def test_the_default_is_the_seed_example_in_plain_keras(self, shape):
        plain = keras.Sequential(
            [
                keras.Input(shape),
                keras.layers.Conv2D(32, 3, activation="relu"),
                keras.layers.MaxPooling2D(),
                keras.layers.Flatten(),
                keras.layers.Dense(128, activation="relu"),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        model = models.build("cnn", classes=10, input_shape=shape)
        assert count(model.weights) == count(plain.weights)
        plain.set_weights(model.get_weights())
        x = images(3, *shape)
        np.testing.assert_allclose(model(x), plain(x), atol=1e-7)

    def test_batchnorm_takes_the_place_of_the_bias(self):
        model = smallest("cnn", filters=(4,), batch_norm=True)
        assert model.get_layer("conv1").bias is None
        assert [layer.synchronized for layer in batchnorms(model)] == [True]

    def test_each_filter_is_a_convolution_and_dense_is_the_width_before_the_softmax(self):
        model = models.cnn(3, (10, 10, 1), filters=(4, 5), dense=6)
        convolutions = 9 * 1 * 4 + 4 + 9 * 4 * 5 + 5
        assert count(model.weights) == convolutions + (5 * 6 + 6) + (6 * 3 + 3)


class TestCifarResnet:
    @pytest.mark.parametrize(("name", "depth", "millions"), [(k, *v) for k, v in CIFAR.items()])
    def test_parameters_are_those_of_the_papers_table(self, name, depth, millions):
        # Section 4.2: a 3x3 convolution of 16, then 2n of 16, 2n of 32 and 2n of 64 filters, and a
        # dense layer of 10; depth 6n + 2; the shortcuts of option A have no parameters.
        n = (depth - 2) // 6
        widths = [16] * (1 + 2 * n) + [32] * 2 * n + [64] * 2 * n
        kernels = sum(9 * a * b for a, b in zip([3, *widths[:-1]], widths, strict=True))
        model = models.build(name, classes=10, input_shape=(32, 32, 3))
        assert count(model.trainable_weights) == kernels + 2 * sum(widths) + 64 * 10 + 10 == MODELS[name].parameters
        assert count(model.non_trainable_weights) == 2 * sum(widths)
        decimals = len(millions.partition(".")[2])
        assert f"{count(model.trainable_weights) / 1e6:.{decimals}f}" == millions
        kernel_layers = (keras.layers.Conv2D, keras.layers.Dense)
        assert sum(isinstance(x, kernel_layers) for x in model.layers) == depth

    def test_resnet20_has_269_722_trainable_parameters(self):
        model = models.resnet20(10, (32, 32, 3))
        assert count(model.trainable_weights) == 269_722

    @pytest.mark.parametrize("side", [8, 7])
    def test_the_shortcut_takes_every_second_pixel_and_pads_channels_with_zeros(self, side):
        model = models.resnet20(3, (side, side, 1))
        before = model.get_layer("stage1_block3_out").output
        after = model.get_layer("stage2_block1_add").output
        # With gamma and beta at zero, the block's own branch adds nothing.
        norm = model.get_layer("stage2_block1_conv2_norm")
        norm.gamma.assign(np.zeros(32))
        x, y = keras.Model(model.input, [before, after])(images(2, side, side, 1))
        expected = np.concatenate([np.asarray(x)[:, ::2, ::2], np.zeros_like(y)[..., :16]], axis=-1)
        np.testing.assert_array_equal(y, expected)

    def test_a_strided_convolution_is_centred_on_the_pixels_of_the_shortcut(self):
        model = models.resnet20(3, (8, 8, 1))
        before = model.get_layer("stage1_block3_out").output
        after = model.get_layer("stage2_block1_conv1").output
        kernel = np.zeros((3, 3, 16, 32), "float32")
        kernel[1, 1, :16, :16] = np.eye(16)
        model.get_layer("stage2_block1_conv1").kernel.assign(kernel)
        x, y = keras.Model(model.input, [before, after])(images(2, 8, 8, 1))
        np.testing.assert_array_equal(np.asarray(y)[..., :16], np.asarray(x)[:, ::2, ::2])


class TestImagenetResnet:
    def test_resnet50_has_53_120_moving_statistics(self):
        model = models.resnet50(1000, (224, 224, 3))
        assert count(model.non_trainable_weights) == 53_120

    def test_the_sizes_are_those_of_the_papers_table(self):
        model = models.resnet50(1000, (224, 224, 3))
        names = ["stem", "stem_pool", *(f"stage{stage}_block1_out" for stage in (1, 2, 3, 4))]
        sizes = [model.get_layer(name).output.shape[1:] for name in names]
        assert sizes == [
            *((112, 112, 64), (56, 56, 64)),
            *((56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)),
        ]

    def test_the_stride_of_a_bottleneck_is_in_its_3x3_convolution(self):
        model = models.resnet50(3, (32, 32, 3))
        strided = [
            layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D) and layer.strides == (2, 2)
        ]
        assert sorted(strided) == [
            *(f"stage{s}_block1_{part}" for s in (2, 3, 4) for part in ("conv2", "shortcut")),
            "stem",
        ]

    @pytest.mark.parametrize("name", ["resnet18", "resnet50"])
    def test_a_new_block_gives_back_what_it_gets(self, name):
        model = models.build(name, classes=3, input_shape=(64, 64, 3))
        ends = [model.get_layer(f"stage2_block{n}_out").output for n in (1, 2)]
        before, after = keras.Model(model.input, ends)(images(2, 64, 64, 3), training=True)
        assert np.std(before) > 0
        np.testing.assert_array_equal(after, before)

    def test_only_the_last_batchnorm_of_a_block_starts_at_zero(self):
        model = models.resnet50(3, (32, 32, 3))
        zero = {x.name for x in batchnorms(model) if not np.any(x.gamma.numpy())}
        assert zero == {x.name for x in batchnorms(model) if x.name.endswith("conv3_norm")}
        assert len(zero) == 16

    def test_kernels_start_he_normal_and_the_classifier_at_a_hundredth(self):
        keras.utils.set_random_seed(0)
        model = models.resnet18(1000, (32, 32, 3))
        kernel = model.get_layer("stage3_block2_conv1").kernel.numpy()
        assert np.std(kernel) == pytest.approx(math.sqrt(2 / (9 * 256)), rel=0.01)
        assert np.std(model.get_layer("probabilities").kernel.numpy()) == pytest.approx(0.01, rel=0.01)

    def test_two_kernels_of_one_shape_start_differently(self):
        model = models.resnet18(3, (32, 32, 3))
        one, other = (model.get_layer(f"stage1_block{n}_conv1").kernel.numpy() for n in (1, 2))
        assert not np.array_equal(one, other)


class TestOptionsOfTheResnets:
    @pytest.mark.parametrize("name", ["resnet20", "resnet18", "resnet50"])
    def test_batchnorm_is_synchronized_for_loops_written_by_hand(self, name):
        model = smallest(name)
        assert batchnorms(model)
        assert all(layer.synchronized for layer in batchnorms(model))

    @pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20", "resnet18", "resnet50"])
    def test_weight_decay_is_half_the_sum_of_squares_of_the_kernels_alone(self, name):
        model = smallest(name, weight_decay=1e-3)
        kernels = [w.numpy() for w in model.trainable_weights if w.path.endswith("kernel")]
        penalty = 1e-3 / 2 * sum(np.sum(np.square(kernel, dtype="float64")) for kernel in kernels)
        assert float(sum(model.losses)) == pytest.approx(penalty, rel=1e-5)
        assert len(model.losses) == len(kernels)

    @pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20", "resnet18"])
    def test_without_weight_decay_there_is_no_penalty(self, name):
        assert smallest(name).losses == []
