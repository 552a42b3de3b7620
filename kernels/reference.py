"""The network in plain PyTorch: the specification that every backend is tested against.

Each operation of DiffWave (Kong et al., ICLR 2021, section 3 and figure 2) is one pure function of tensors; the
functions of the whole network follow them. All tensors of one call share one dtype, float32 or float64, which is also
the dtype of sums and results. Nothing is modified in place. Shapes that do not fit raise RuntimeError.

Dims: B batch, M mel bands, T mel frames, L = T * hop samples, C residual channels, N layers, S steps. Weights are a
flat dict with the key names of LMNT's checkpoints (`engine.checkpoint.load.expected_shapes`). Differences between the
public families are arguments of the operations, and fields of `Config` for the functions of a whole network.

"Equivalent to" shows an operation in a few lines of PyTorch, where F is torch.nn.functional. Tests run these lines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from engine.config import Config
    from engine.diffusion.schedule import Schedule


def to_tensors(weights: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    """Copy NumPy arrays or tensors to CPU tensors of one dtype. In float64 the reference is exact."""
    tensors = {key: torch.as_tensor(value).detach() for key, value in weights.items()}
    return {key: tensor.to("cpu", dtype, copy=True) for key, tensor in tensors.items()}


def upsample_mel(
    mel: Tensor, weights: Mapping[str, Tensor], strides: Sequence[int], layer: int | None = None
) -> Tensor:
    """Upsample a mel over time, with one transposed convolution per stride s (section 3.2, local conditioner).

    Equivalent to::

        image = mel[:, None]
        for number, s in enumerate(strides, start=1):
            weight = weights[f"spectrogram_upsampler.conv{number}.weight"]  # [1,1,3,2s]
            bias = weights[f"spectrogram_upsampler.conv{number}.bias"]
            padding, more = (1, (s + 1) // 2), (0, s % 2)
            image = F.leaky_relu(F.conv_transpose2d(image, weight, bias, (1, s), padding, more), 0.4)
        mel_up = image[:, 0]

    Args:
        mel: [B,M,T], in the units of the checkpoint's mel kind.
        weights: holds ``spectrogram_upsampler.conv{1,2,..}.{weight,bias}``, one pair per stride.
        strides: in the order of use; their product is the hop.
        layer: the layer of the upsampler, ``residual_layers.{layer}.``, if each layer has its own.

    Returns:
        [B,M,T*hop].
    """
    image = mel[:, None]
    prefix = "" if layer is None else f"residual_layers.{layer}."
    for number, stride in enumerate(strides, start=1):
        key = f"{prefix}spectrogram_upsampler.conv{number}"
        weight, bias = weights[f"{key}.weight"], weights[f"{key}.bias"]
        padding, output_padding = (stride + 1) // 2, stride % 2
        image = functional.conv_transpose2d(image, weight, bias, (1, stride), (1, padding), (0, output_padding))
        image = functional.leaky_relu(image, 0.4)
    return image[:, 0]


def project_conditioner(mel_up: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute one layer's conditioner, ``W mel_up + bias`` at every sample (section 3.2), independent of the step.

    Equivalent to::

        conditioner = torch.einsum("oi,bil->bol", weight[:, :, 0], mel_up) + bias[:, None]

    Args:
        mel_up: [B,M,L] from `upsample_mel`.
        weight: [2C,M,1].
        bias: [2C].

    Returns:
        [B,2C,L], added to the dilated convolution of the same layer.
    """
    return functional.conv1d(mel_up, weight, bias)


def label_conditioner(embedding: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute one layer's conditioner of a class, ``W e + bias`` (section 3.2, global conditioner).

    Equivalent to::

        conditioner = F.linear(embedding, weight[:, :, 0], bias)[:, :, None]

    Args:
        embedding: e [B,128], the items' rows of ``label_embedding.weight``, which all layers share.
        weight: [2C,128,1].
        bias: [2C].

    Returns:
        [B,2C,1], added to the dilated convolution of the same layer at every sample.
    """
    return functional.conv1d(embedding[:, :, None], weight, bias)


def input_projection(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute ``relu(W x + bias)``, the 1x1 convolution from 1 to C channels at the network's entry (figure 2).

    Equivalent to::

        h = F.relu(weight[:, :, 0] * x[:, None] + bias[:, None])

    Args:
        x: [B,L], the noisy audio of this step.
        weight: [C,1,1].
        bias: [C].

    Returns:
        h [B,C,L], the input of layer 0.
    """
    return functional.relu(functional.conv1d(x[:, None], weight, bias))


def step_embedding(t: float, steps_T: int, dtype: torch.dtype) -> Tensor:
    """Compute the sinusoids of a diffusion step, ``[sin(f_k t) | cos(f_k t)]``, ``f_k = 10^(4k/63)`` (section 3.1).

    This is LMNT's form: a float32 table with one row for each training step 0 .. T-1. A fractional t is interpolated
    linearly between two rows.

    Args:
        t: the step on the training scale, 0 <= t <= steps_T - 1, fractions allowed.
        steps_T: the number of training steps.
        dtype: the dtype of the result. The table is rounded to float32 whatever the dtype.

    Returns:
        [128].

    Raises:
        IndexError: t lies outside the table.
    """
    low, high = math.floor(t), math.ceil(t)
    if not 0 <= low <= high < steps_T:
        raise IndexError(f"t: expected 0 to {steps_T - 1}, got {t}")
    rows = torch.tensor([[low], [high]], dtype=torch.float32)
    exponent = torch.arange(64) * 4.0 / 63.0
    # The argument reaches 4.9e5, where float32 rounds to 0.03 rad: the network was trained with these roundings.
    angle = rows * torch.pow(10.0, exponent.double()).float()
    table = torch.cat([angle.double().sin(), angle.double().cos()], dim=1)
    return torch.lerp(table[0], table[1], t - low).to(dtype)


def step_embedding_sinusoid(t: float, steps_T: int, dtype: torch.dtype) -> Tensor:
    """Compute the sinusoids of a diffusion step without a table, ``f_k = 10^(-4k/63)`` (section 3.1).

    This is philsyn's form. Arguments and results are those of `step_embedding`.

    Equivalent to::

        frequencies = 10.0 ** (-4.0 * torch.arange(64, dtype=torch.float64) / 63.0)
        embedding = torch.cat([torch.sin(frequencies * t), torch.cos(frequencies * t)]).to(dtype)

    Raises:
        IndexError: t lies outside the training scale.
    """
    if not 0 <= t <= steps_T - 1:
        raise IndexError(f"t: expected 0 to {steps_T - 1}, got {t}")
    angle = t * torch.pow(10.0, torch.arange(64, dtype=torch.float64) * (-4.0 / 63.0))
    return torch.cat([angle.sin(), angle.cos()]).to(dtype)


def step_features(embedding: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """Compute ``silu(W2 silu(W1 e + bias1) + bias2)``, which all layers share (section 3.1).

    Equivalent to::

        features = F.silu(F.linear(F.silu(F.linear(embedding, weight1, bias1)), weight2, bias2))

    Args:
        embedding: e [128] from `step_embedding`.
        weight1: [512,128].
        bias1: [512].
        weight2: [512,512].
        bias2: [512].

    Returns:
        [512].
    """
    hidden = functional.silu(functional.linear(embedding, weight1, bias1))
    return functional.silu(functional.linear(hidden, weight2, bias2))


def step_bias(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute one layer's step bias, ``d = W features + bias`` (section 3.1).

    Equivalent to::

        d = (weight @ features + bias)[None]

    Args:
        features: [512] from `step_features`.
        weight: [C,512].
        bias: [C].

    Returns:
        d [1,C], one row for the whole batch.
    """
    return functional.linear(features, weight, bias)[None]


def residual_block(
    h: Tensor,
    conditioner: Tensor | None,
    d: Tensor,
    dilated_weight: Tensor,
    dilated_bias: Tensor,
    output_weight: Tensor,
    output_bias: Tensor,
    dilation: int,
    padding: str = "zeros",
    step_bias_in_residual: bool = False,
) -> tuple[Tensor, Tensor]:
    """Compute one residual layer (figure 2).

    ::

        p[l] = h[l] + d for l in 0 .. L-1; outside 0, or p[-l] and p[2(L-1)-l] if padding is "reflect"
        y[l] = sum_k W[:,:,k] p[l + (k-1) * dilation] + bias + conditioner[l]
        z    = sigmoid(y[:C]) * tanh(y[C:])
        o    = W_out z + bias_out
        h_next, skip = (h + o[:C]) * sqrt(1/2), o[C:]    or (h + d + o[:C]) if step_bias_in_residual

    d is added before the zero padding. Folding d into the bias would be wrong within `dilation` of each end.

    With zero padding and a conditioner, equivalent to::

        C = h.shape[1]
        p = F.pad(h + d[:, :, None], (dilation, dilation))
        y = F.conv1d(p, dilated_weight, dilated_bias, dilation=dilation) + conditioner
        z = torch.sigmoid(y[:, :C]) * torch.tanh(y[:, C:])
        o = F.conv1d(z, output_weight, output_bias)
        h_next, skip = (h + o[:, :C]) * 0.5**0.5, o[:, C:]

    Args:
        h: [B,C,L].
        conditioner: [B,2C,L] from `project_conditioner` or [B,2C,1] from `label_conditioner`; None without either.
        d: [B,C] or [1,C] from `step_bias`.
        dilated_weight: [2C,C,3].
        dilated_bias: [2C].
        output_weight: [2C,C,1], residual rows first.
        output_bias: [2C].
        dilation: in samples, at least 1; may exceed L, unless padding is "reflect".
        padding: the values outside the audio, "zeros" or "reflect" (SpeechBrain's).
        step_bias_in_residual: the residual connection also carries d (philsyn's).

    Returns:
        h_next [B,C,L], the input of the next layer, and skip [B,C,L], this layer's part of the skip sum.
    """
    stepped = h + d[:, :, None]
    mode = {"zeros": "constant", "reflect": "reflect"}[padding]
    padded = functional.pad(stepped, (dilation, dilation), mode=mode)
    y = functional.conv1d(padded, dilated_weight, dilated_bias, dilation=dilation)
    if conditioner is not None:
        y = y + conditioner
    gate, filtered = y.chunk(2, dim=1)
    z = torch.sigmoid(gate) * torch.tanh(filtered)
    residual, skip = functional.conv1d(z, output_weight, output_bias).chunk(2, dim=1)
    carried = stepped if step_bias_in_residual else h
    return (carried + residual) * math.sqrt(0.5), skip


def output_head(
    skip_sum: Tensor,
    skip_weight: Tensor,
    skip_bias: Tensor,
    output_weight: Tensor,
    output_bias: Tensor,
    n_layers: int,
) -> Tensor:
    """Compute ``eps = w_out . relu(W_skip skip_sum * sqrt(1/N) + bias_skip) + bias_out`` (figure 2).

    Equivalent to::

        hidden = F.relu(F.conv1d(skip_sum / n_layers**0.5, skip_weight, skip_bias))
        eps = F.conv1d(hidden, output_weight, output_bias)[:, 0]

    Args:
        skip_sum: [B,C,L], the sum of the N layers' skips.
        skip_weight: [C,C,1].
        skip_bias: [C].
        output_weight: [1,C,1].
        output_bias: [1].
        n_layers: N.

    Returns:
        eps [B,L], the predicted noise, in units of its standard deviation.
    """
    hidden = functional.relu(functional.conv1d(skip_sum * math.sqrt(1.0 / n_layers), skip_weight, skip_bias))
    return functional.conv1d(hidden, output_weight, output_bias)[:, 0]


def noise_update(
    x: Tensor, eps: Tensor, a: float, b: float, sigma: float, z: Tensor | None, clamp: bool = True
) -> Tensor:
    """Compute one step of the reverse process, ``a x + b eps + sigma z`` (algorithm 2).

    `engine.diffusion.schedule.Schedule` holds a, b and sigma for every step.

    Equivalent to::

        x_next = torch.clamp(a * x + b * eps + sigma * z, -1.0, 1.0)

    Args:
        x: [B,L], the noisy audio of this step.
        eps: [B,L] from `output_head`.
        a: ``1 / sqrt(1 - beta)``.
        b: ``-beta / sqrt(1 - alpha_bar) / sqrt(1 - beta)``.
        sigma: the standard deviation of the new noise.
        z: [B,L], standard normal noise; None only where sigma is 0.
        clamp: limit the result to [-1,1], as LMNT does after every step.

    Returns:
        [B,L], the audio of the next step.

    Raises:
        ValueError: z is missing although sigma is not 0.
    """
    if z is None and sigma != 0.0:
        raise ValueError(f"z: expected noise for sigma {sigma}, got None")
    x = a * x + b * eps
    if z is not None:
        x = x + sigma * z
    return x.clamp(-1.0, 1.0) if clamp else x


def conditioners(
    weights: Mapping[str, Tensor], config: Config, mel: Tensor | None, labels: Tensor | None = None
) -> list[Tensor | None]:
    """Compute every layer's conditioner.

    Args:
        weights: from `to_tensors`, LMNT's key names.
        config: the network's sizes and variants.
        mel: [B,M,T]; None for a network without one.
        labels: [B] int64, indices of classes; None for a network without them.

    Returns:
        N conditioners: [B,2C,L] for a mel, [B,2C,1] for labels, None without either.

    Raises:
        ValueError: mel or labels do not suit the network.
    """
    if (labels is None) != (not config.classes):
        got = "none" if labels is None else "some"
        raise ValueError(f"labels: expected {'some' if config.classes else 'none'} for this network, got {got}")
    if (mel is None) != (config.n_mels == 0):
        got = "none" if mel is None else "one"
        raise ValueError(f"mel: expected {'one' if config.n_mels else 'none'} for this network, got {got}")
    if labels is not None:
        embedding = weights["label_embedding.weight"][labels]
        keys = [f"residual_layers.{i}.label_projection" for i in range(config.residual_layers)]
        return [label_conditioner(embedding, weights[f"{key}.weight"], weights[f"{key}.bias"]) for key in keys]
    if mel is None:
        return [None] * config.residual_layers
    shared = upsample_mel(mel, weights, config.upsample_strides) if config.shared_upsampler else None
    projected: list[Tensor | None] = []
    for i in range(config.residual_layers):
        mel_up = shared if shared is not None else upsample_mel(mel, weights, config.upsample_strides, i)
        key = f"residual_layers.{i}.conditioner_projection"
        projected.append(project_conditioner(mel_up, weights[f"{key}.weight"], weights[f"{key}.bias"]))
    return projected


def predict_noise(
    weights: Mapping[str, Tensor],
    config: Config,
    x: Tensor,
    t: float,
    mel: Tensor | None = None,
    labels: Tensor | None = None,
) -> Tensor:
    """Evaluate the network once, ``eps(x, t, mel or labels)`` (figure 2).

    Args:
        weights: from `to_tensors`, LMNT's key names.
        config: the network's sizes and variants.
        x: [B,L], the noisy audio; L = T * hop with a mel.
        t: the step on the training scale, 0 .. T-1, fractions allowed.
        mel: [B,M,T]; None for a network without one.
        labels: [B] int64, indices of classes; None for a network without them.

    Returns:
        eps [B,L].

    Raises:
        ValueError: mel or labels do not suit the network.
        IndexError: t lies outside the training scale, or a label is not the index of a class.
    """
    return _evaluate(weights, config, x, t, None, conditioners(weights, config, mel, labels))


def sample(
    weights: Mapping[str, Tensor],
    config: Config,
    mel: Tensor | None,
    schedule: Schedule,
    x_T: Tensor,
    z: Tensor,
    std: Tensor | None = None,
    clamp: bool | None = None,
    labels: Tensor | None = None,
) -> Tensor:
    """Run the whole reverse process (algorithm 2) with given noise.

    Args:
        weights: from `to_tensors`, LMNT's key names.
        config: the network's sizes and variants.
        mel: [B,M,T]; None for a network without one.
        schedule: S steps, in the order of execution.
        x_T: [B,L], the initial noise, standard normal.
        z: [S-1,B,L], the noise of steps 0 .. S-2 in the order of use (the last step adds none).
        std: [B,L], multiplies all noise of a network with a prior (PriorGrad); None for every other.
        clamp: limit the audio to [-1,1] after every step; None for the network's own setting.
        labels: [B] int64, indices of classes; None for a network without them.

    Returns:
        audio [B,L].

    Raises:
        ValueError: mel, labels or std do not suit the network, or z has another number of steps.
    """
    if (std is not None) != config.prior:
        raise ValueError(f"std: expected {'one' if config.prior else 'none'} for this network")
    if len(z) != len(schedule) - 1:
        raise ValueError(f"z: expected the noise of {len(schedule) - 1} steps, got {len(z)}")
    per_layer = conditioners(weights, config, mel, labels)
    scale = torch.ones_like(x_T) if std is None else std
    clamp = config.clamp if clamp is None else clamp
    x = x_T * scale
    for n, t in enumerate(schedule.t):
        eps = _evaluate(weights, config, x, t, schedule.alpha_bar[n], per_layer)
        noise = z[n] * scale if n < len(z) else None
        x = noise_update(x, eps, schedule.a[n], schedule.b[n], schedule.sigma[n], noise, clamp)
    return x


def _evaluate(
    weights: Mapping[str, Tensor],
    config: Config,
    x: Tensor,
    t: float,
    alpha_bar: float | None,
    per_layer: Sequence[Tensor | None],
) -> Tensor:
    def pair(key: str) -> tuple[Tensor, Tensor]:
        return weights[f"{key}.weight"], weights[f"{key}.bias"]

    embed = {"table": step_embedding, "sinusoid": step_embedding_sinusoid}[config.step_embedding]
    embedding = embed(t, len(config.train_schedule), x.dtype)
    features = step_features(
        embedding, *pair("diffusion_embedding.projection1"), *pair("diffusion_embedding.projection2")
    )
    h = input_projection(x, *pair("input_projection"))
    skip_sum = torch.zeros_like(h)
    for i, dilation in enumerate(config.dilations):
        layer = f"residual_layers.{i}"
        d = step_bias(features, *pair(f"{layer}.diffusion_projection"))
        dilated, output = pair(f"{layer}.dilated_conv"), pair(f"{layer}.output_projection")
        variant = config.padding, config.step_bias_in_residual
        h, skip = residual_block(h, per_layer[i], d, *dilated, *output, dilation, *variant)
        skip_sum = skip_sum + skip
    predicted = output_head(skip_sum, *pair("skip_projection"), *pair("output_projection"), config.residual_layers)
    # 0 and 1, unless the output is preconditioned (see Config.preconditioning).
    p, q = config.preconditioning(config.alpha_bar(t) if alpha_bar is None else alpha_bar)
    return p * x + q * predicted
