"""Another framework's arrays (channels last): the outputs must be equal, not just the shapes.

The other framework is played by its own forward pass, written in NumPy for pictures of the shape
(N, H, W, C) and kernels (H, W, in, out).
"""

import numpy as np
import pytest
import timm
import torch
import torchvision
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from course_lib.weights import LoadError, load_weights, name_table, read_checkpoint, to_torch_layout

# --- the other framework ------------------------------------------------------------------------


def conv(x, kernel, stride=1, padding=0, bias=0.0):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = kernel.shape[:2]
    patches = sliding_window_view(x, (height, width), (1, 2))[:, ::stride, ::stride]
    return np.einsum("nhwcij,ijco->nhwo", patches, kernel, optimize=True) + bias


def depthwise(x, kernel, stride=1, padding=0):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = kernel.shape[:2]
    patches = sliding_window_view(x, (height, width), (1, 2))[:, ::stride, ::stride]
    out = np.einsum("nhwcij,ijcm->nhwcm", patches, kernel, optimize=True)
    return out.reshape(*out.shape[:3], -1)


def norm(x, p, name):
    scale = p[f"{name}/gamma"] / np.sqrt(p[f"{name}/moving_variance"] + 1e-5)
    return (x - p[f"{name}/moving_mean"]) * scale + p[f"{name}/beta"]


def relu(x, top=np.inf):
    return np.clip(x, 0, top)


def max_pool(x, size, stride, padding):
    edge = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    x = np.pad(x, edge, constant_values=-np.inf)
    return sliding_window_view(x, (size, size), (1, 2))[:, ::stride, ::stride].max((-1, -2))


def dense(x, p, name):
    return x @ p[f"{name}/kernel"] + p[f"{name}/bias"]


def resnet18(x, p):
    x = relu(norm(conv(x, p["stem/conv/kernel"], 2, 3), p, "stem/norm"))
    x = max_pool(x, 3, 2, 1)
    for stage in range(1, 5):
        for block in range(2):
            name = f"stage{stage}/block{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = relu(norm(conv(x, p[f"{name}/conv1/kernel"], stride, 1), p, f"{name}/norm1"))
            y = norm(conv(y, p[f"{name}/conv2/kernel"], 1, 1), p, f"{name}/norm2")
            if f"{name}/shortcut/kernel" in p:
                shortcut = conv(x, p[f"{name}/shortcut/kernel"], stride)
                x = norm(shortcut, p, f"{name}/shortcut_norm")
            x = relu(x + y)
    return dense(x.mean((1, 2)), p, "top")


def separable(x, p):
    x = relu(norm(depthwise(x, p["dw/depthwise_kernel"], 1, 1), p, "dw/norm"), 6)
    x = conv(x, p["pw/kernel"], 2, 0, p["pw/bias"])
    return dense(x.reshape(len(x), -1), p, "top")


def random_parameters(shapes, seed):
    rng = np.random.default_rng(seed)
    made = {}
    for name, shape in shapes.items():
        fan = np.prod(shape[:-1]) if len(shape) > 1 else 4
        made[name] = rng.normal(0, 1 / np.sqrt(fan), shape).astype(np.float32)
        if name.endswith(("gamma", "moving_variance")):
            made[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return made


# --- theirs to ours -----------------------------------------------------------------------------


def shapes_of_resnet18():
    """In the other layout, from the table and the torchvision model's own shapes."""
    shapes = {n: tuple(t.shape) for n, t in torchvision.models.resnet18().state_dict().items()}
    turned = {4: lambda s: (s[2], s[3], s[1], s[0]), 2: lambda s: s[::-1], 1: lambda s: s}
    return {theirs: turned[len(shapes[ours])](shapes[ours])
            for theirs, ours in name_table("resnet18_channels_last").items()}  # fmt: skip


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_resnet18_gives_equal_outputs(tmp_path, library):
    theirs = random_parameters(shapes_of_resnet18(), 3)
    np.savez(tmp_path / "theirs.npz", **theirs)
    model = (
        torchvision.models.resnet18() if library == "torchvision" else timm.create_model("resnet18")
    )
    arrays = read_checkpoint(tmp_path / "theirs.npz").tensors
    state = to_torch_layout(arrays, model, "resnet18_channels_last")
    report = load_weights(model, state, keep="*.num_batches_tracked")
    assert len(report.loaded) == 102
    picture = np.random.default_rng(0).random((2, 64, 64, 3), dtype=np.float32)
    with torch.no_grad():
        ours = model.eval()(torch.from_numpy(picture).permute(0, 3, 1, 2)).numpy()
    expected = resnet18(picture.astype(np.float64), theirs)
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4)


class Separable(nn.Module):
    def __init__(self):
        super().__init__()
        self.dw = nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.pw = nn.Conv2d(6, 5, 1, stride=2)
        self.top = nn.Linear(5 * 2 * 4, 7)

    def forward(self, x):
        x = self.pw(torch.nn.functional.relu6(self.norm(self.dw(x))))
        return self.top(x.flatten(1))


SEPARABLE = {
    "dw/depthwise_kernel": "dw.weight", "dw/norm/gamma": "norm.weight", "dw/norm/beta": "norm.bias",
    "dw/norm/moving_mean": "norm.running_mean", "dw/norm/moving_variance": "norm.running_var",
    "pw/kernel": "pw.weight", "pw/bias": "pw.bias", "top/kernel": "top.weight",
    "top/bias": "top.bias",
}  # fmt: skip
SEPARABLE_SHAPES = {
    "dw/depthwise_kernel": (3, 3, 3, 2), "dw/norm/gamma": (6,), "dw/norm/beta": (6,),
    "dw/norm/moving_mean": (6,), "dw/norm/moving_variance": (6,), "pw/kernel": (1, 1, 6, 5),
    "pw/bias": (5,), "top/kernel": (40, 7), "top/bias": (7,),
}  # fmt: skip


def test_depthwise_kernels_and_flattened_pictures():
    theirs = random_parameters(SEPARABLE_SHAPES, 4)
    picture = np.random.default_rng(0).random((2, 4, 8, 3), dtype=np.float32)
    expected = separable(picture.astype(np.float64), theirs)
    model = Separable().eval()

    def outputs(**options):
        state = to_torch_layout(theirs, model, SEPARABLE, **options)
        load_weights(model, state, keep="norm.num_batches_tracked")
        with torch.no_grad():
            return model(torch.from_numpy(picture).permute(0, 3, 1, 2)).numpy()

    right = outputs(flattened={"top": (5, 2, 4)})
    np.testing.assert_allclose(right, expected, rtol=1e-4, atol=1e-5)
    assert abs(outputs() - expected).max() > 0.01  # fitting shapes are no proof


def test_square_matrices_are_turned_too():
    """Shapes alone would say that nothing is to be done."""
    kernel = np.arange(9, dtype=np.float32).reshape(3, 3)
    state = to_torch_layout({"weight": kernel}, nn.Linear(3, 3))
    assert torch.equal(state["weight"], torch.from_numpy(kernel.T))
    assert state["weight"].is_contiguous()


def test_transposed_convolutions():
    kernel = torch.randn(2, 3, 4, 5)  # height, width, out, in
    state = to_torch_layout({"weight": kernel}, nn.ConvTranspose2d(5, 4, (2, 3)))
    assert torch.equal(state["weight"], kernel.permute(3, 2, 0, 1))


def test_what_does_not_fit_is_named():
    model = Separable()
    good = random_parameters(SEPARABLE_SHAPES, 1)
    for change, says in [
        ({"pw/kernel": np.ones((1, 1, 6, 4), np.float32)}, r"'pw/kernel' has shape \(1, 1, 6, 4\)"),
        ({"pw/karnel": np.ones(3)}, "becomes 'pw/karnel', which the model"),
        ({"pw.bias": np.ones(5)}, "Two arrays become 'pw.bias'"),
    ]:
        with pytest.raises(LoadError, match=says):
            to_torch_layout(good | change, model, SEPARABLE)
    with pytest.raises(LoadError, match="MultiheadAttention, whose axes"):
        to_torch_layout({"in_proj_weight": np.ones((12, 4))}, nn.MultiheadAttention(4, 1))
    assert to_torch_layout(good, model, lambda name: None) == {}
