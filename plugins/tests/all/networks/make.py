"""Networks as PyTorch exports them, and what onnxruntime says of them.

    python3 -m venv venv
    venv/bin/pip install torch==2.15.0 onnx==1.23.2 onnxruntime==1.32.0 onnxscript==0.7.2
    venv/bin/python make.py

Each is trained for a moment on synthetic wear, so that its weights are not those it began with. `onnxruntime.json` has the
rows and the answers; of sequences the answer to the last rows of the key, as the plugin has to build them.
"""

import json
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import quantize_dynamic
from torch import nn

warnings.filterwarnings("ignore")
torch.manual_seed(7)
rng = np.random.default_rng(7)
T, F = 30, 6


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(F, 12, num_layers=2, batch_first=True)
        self.head = nn.Linear(12, 1)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Gru(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(F, 8, batch_first=True)
        self.head = nn.Sequential(nn.Linear(8, 3), nn.Softmax(dim=1))

    def forward(self, x):
        return self.head(self.gru(x)[0][:, -1])


class Determinant(nn.Module):
    def forward(self, x):
        return torch.linalg.det(x.reshape(-1, 2, 2)).unsqueeze(1)


def mlp():
    return nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 1))


def cnn():
    return nn.Sequential(
        nn.Conv1d(F, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(8, 8, 3), nn.GELU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 1),
    )


def wear(n, shape):
    """Windows over a level that rises, and how far it still is from 1."""
    level = rng.uniform(0, 1, n)
    drift = np.linspace(-0.2, 0, shape[-2]) if len(shape) > 1 else np.zeros(1)
    x = level[:, None, None] + drift[None, :, None] + 0.1 * rng.standard_normal((n, len(drift), shape[-1]))
    return (x if len(shape) > 1 else x[:, 0]).astype(np.float32), (1 - level).astype(np.float32)


def train(net, shape, transpose=False):
    x, y = wear(512, shape)
    x = torch.tensor(x.transpose(0, 2, 1) if transpose else x)
    y = torch.tensor(y)[:, None]
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(60):
        optimiser.zero_grad()
        out = net(x)
        loss = ((out.mean(1, keepdim=True) if out.shape[1] == 1 else out[:, :1]) - y).square().mean()
        loss.backward()
        optimiser.step()
    return net.eval()


def export(net, example, name, dynamo, batch="batch"):
    if dynamo:
        shapes = ({0: torch.export.Dim(batch)},) if batch else None
        # Two rows: a batch of one would be taken for a constant.
        many = torch.cat([example] * 2) if batch else example
        program = torch.onnx.export(net, (many,), dynamo=True, dynamic_shapes=shapes, input_names=["x"], external_data=False)
        program.save(f"{name}.onnx")
    else:
        axes = {"x": {0: batch}, "y": {0: batch}} if batch else None
        torch.onnx.export(net, (example,), f"{name}.onnx", dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes=axes)
    model = onnx.load(f"{name}.onnx")
    # What the exporter notes of its own source is most of a small file.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for part in [*model.graph.value_info, *model.graph.input, *model.graph.output, model.graph]:
        del part.metadata_props[:]
    onnx.save(model, f"{name}.onnx")
    ops = sorted({node.op_type for node in model.graph.node})
    print(name, [(d.domain, d.version) for d in model.opset_import], ops)


def answers(name, x):
    session = onnxruntime.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [session.run(None, {name: row[None]})[0].reshape(-1).tolist() for row in x]


def windows(rows, pad):
    """The last T rows at each row; what is missing at the start is the first row, zeros, or the answer is missing."""
    for at in range(len(rows)):
        part = rows[max(0, at + 1 - T) : at + 1]
        lack = T - len(part)
        fill = np.repeat(part[:1], lack, 0) if pad == "first" else np.zeros((lack, F), np.float32)
        yield None if lack and pad == "none" else np.concatenate([fill, part]).astype(np.float32)


def sequence(name, series, transpose=False):
    out = {}
    for pad in ["first", "zero", "none"]:
        out[pad] = []
        for rows in series:
            for window in windows(rows, pad):
                if window is None:
                    out[pad].append(None)
                    continue
                window = np.ascontiguousarray(window.T if transpose else window)
                out[pad].append(answers(name, window[None])[0])
    return out


reference = {}
net = train(mlp(), (24,))
rows = wear(40, (24,))[0]
for name, dynamo, batch in [("mlp", False, "batch"), ("mlp_dynamo", True, "batch"), ("mlp_fixed", False, None)]:
    export(net, torch.zeros(1, 24), name, dynamo, batch)
quantize_dynamic("mlp.onnx", "mlp_int8.onnx")
reference["mlp_rows"] = rows.tolist()
for name in ["mlp", "mlp_dynamo", "mlp_fixed", "mlp_int8"]:
    reference[name] = answers(name, rows)

level = np.linspace(0.1, 0.9, 40)
series = [(level[:, None] + 0.1 * rng.standard_normal((40, F))).astype(np.float32) for _ in range(2)]
reference["series"] = [rows.tolist() for rows in series]
net = train(cnn(), (T, F), transpose=True)
for name, dynamo in [("cnn", False), ("cnn_dynamo", True)]:
    export(net, torch.zeros(1, F, T), name, dynamo)
    reference[name] = sequence(name, series, transpose=True)
net = train(Lstm(), (T, F))
for name, dynamo in [("lstm", False), ("lstm_dynamo", True)]:
    export(net, torch.zeros(1, T, F), name, dynamo)
    reference[name] = sequence(name, series)
export(train(Gru(), (T, F)), torch.zeros(1, T, F), "gru", False)
reference["gru"] = sequence("gru", series)

export(Determinant(), torch.zeros(1, 4), "unsupported", False)
export(nn.Sequential(nn.Linear(4, 2)).half(), torch.zeros(1, 4, dtype=torch.float16), "half", False)
with open("onnxruntime.json", "w") as file:
    json.dump(reference, file, separators=(",", ":"))
