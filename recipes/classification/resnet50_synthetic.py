"""ResNet-50 on generated images: how fast N replicas train.

python -m tfdist.train --recipe=recipes/classification/resnet50_synthetic.py --steps=100
python -m tfdist.bench --model=resnet50 --input_shape=224,224,3 --classes=1000 --replica_batch=64 --optimizer=sgd \
    --replicas=1,2,4,8 --versus=plain_loop                  # GPUs of this machine; CPUs: logical devices
python -m tfdist.bench ... --scale=1,2,4 --versus=plain_multi_worker    # workers, each a process on this machine

The second and third write bench.png, with the efficiency over 1…N as in Azure's architecture "Distributed training of
deep learning models" (2018), which names no rate for this model in TensorFlow 2. --precision=mixed_float16 for GPUs.
Measured: see docs/guides/recipes.md.
"""

from tfdist import RunConfig


def recipe():
    """Returns the run: 128 images in memory, which repeat, so that no input limits the rate."""
    return RunConfig(
        name="resnet50_synthetic",
        model="resnet50",
        dataset="synthetic",
        dataset_options={"shape": (224, 224, 3), "classes": 1000, "rows": 12_800, "pool": 128},
        test_split=None,
        replica_batch=64,
        epochs=1,
        optimizer="sgd",
        optimizer_options={"momentum": 0.9},
        learning_rate=0.1,
    )
