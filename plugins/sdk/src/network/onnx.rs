//! What an ONNX file says of its network, read without a library: inputs, outputs, operators, types.
//!
//! Just enough of Protocol Buffers for `onnx.proto3` (github.com/onnx/onnx, IR version 3 to 12), so that `foreline` can
//! refuse a network before it is shipped without carrying an inference engine. What it does not know it skips, as the
//! format asks; lengths that lead outside the file, and graphs in graphs without end, are errors.

use std::collections::BTreeSet;

/// Graphs within graphs: bodies of `If`, `Loop` and `Scan`. Exporters nest two or three.
const MAX_DEPTH: usize = 16;

/// The operators that tract 0.23.9 has, sorted; the plugin is built with exactly that version and asks tract itself.
/// Left out are those that draw random numbers (`Multinomial`, `RandomNormal` and its like): a replay could not repeat them,
/// and those of quantised networks, whose scores were up to a fifth off those of onnxruntime.
const OPERATORS: &str = "\
     Abs Acos Acosh Add And ArgMax ArgMin ArrayFeatureExtractor Asin Asinh Atan Atanh Attention AveragePool \
     BatchNormalization BiasGelu BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast \
     CastLike CategoryMapper Ceil Celu Clip Compress Concat Constant ConstantLike ConstantOfShape Conv \
     ConvTranspose Cos Cosh CumSum DFT DepthToSpace Div Dropout \
     Einsum Elu Equal Erf Exp Expand EyeLike FastGelu Flatten Floor GRU Gather \
     GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater \
     GreaterOrEqual GridSample GroupNormalization GroupQueryAttention HammingWindow HannWindow HardSigmoid \
     HardSwish Hardmax Identity If InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less \
     LessOrEqual LinearClassifier LinearRegressor Log LogSoftmax LpNormalization MatMul \
     Max MaxPool Mean MeanVarianceNormalization MelWeightMatrix Min Mish Mod Mul MultiHeadAttention \
     Neg NonMaxSuppression NonZero Normalizer Not OneHot Or PRelu Pad ParametricSoftplus Pow \
     QuickGelu RMSNormalization RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum \
     ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize \
     RotaryEmbedding Round Rsqrt STFT ScaledTanh Scan Scatter ScatterElements ScatterND Selu Shape Shrink \
     Sigmoid Sign SimplifiedLayerNormalization Sin Sinh Size SkipLayerNormalization \
     SkipSimplifiedLayerNormalization Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum \
     Swish Tan Tanh ThresholdedRelu Tile TopK Transpose TreeEnsembleClassifier Trilu Unsqueeze Where Xor";

/// A type of numbers that networks are given as or answer.
pub const FLOAT: u64 = 1;

/// What a file says of its network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// What wrote it, with its version: `pytorch 2.15.0`.
    pub producer: String,
    /// The version of the standard operators.
    pub opset: u64,
    /// What it takes, without the weights.
    pub inputs: Vec<Value>,
    /// What it answers.
    pub outputs: Vec<Value>,
    /// The operators, those of other domains as `domain.Operator`.
    pub operators: BTreeSet<String>,
    /// The names of types other than those tract is checked with that weights have.
    pub odd_weights: BTreeSet<&'static str>,
    /// Whether weights lie in other files.
    pub external: bool,
}

impl Summary {
    /// Refuses what no plan could be made of, by the name of the input or type.
    ///
    /// # Errors
    /// Saying what to export instead.
    pub fn check(&self) -> Result<(), String> {
        if self.external {
            return Err(
                "its weights lie in another file; export it with `external_data=False`".to_owned()
            );
        }
        let known = |name: &String| OPERATORS.split_ascii_whitespace().any(|known| name == known);
        if let Some(operator) = self.operators.iter().find(|name| !known(name)) {
            return Err(format!("it has the operator '{operator}', which is not supported"));
        }
        let count = |what: &str, values: &[Value]| match values {
            [value] => Ok(value.clone()),
            values => {
                let names: Vec<&str> = values.iter().map(|v| v.name.as_str()).collect();
                let names = names.join("', '");
                Err(format!("it has {} {what} ('{names}'); export it with one", values.len()))
            }
        };
        let input = count("inputs", &self.inputs)?;
        let output = count("outputs", &self.outputs)?;
        for (what, value) in [("input", &input), ("output", &output)] {
            if value.elem != FLOAT {
                let (name, found) = (&value.name, type_name(value.elem));
                return Err(format!(
                    "the {what} '{name}' is of type {found}; export it in float32"
                ));
            }
        }
        if let Some(odd) = self.odd_weights.first() {
            return Err(format!("it has weights of type {odd}; export it in float32"));
        }
        match (input.shape.len(), input.shape.first()) {
            (2 | 3, Some(None | Some(1))) => Ok(()),
            (2 | 3, Some(Some(batch))) => Err(format!(
                "the input '{}' takes batches of {batch}; export it with a dynamic batch axis, or with 1",
                input.name
            )),
            (axes, _) => Err(format!(
                "the input '{}' has {axes} axes; it must be [batch, feature], [batch, time, feature] or [batch, feature, time]",
                input.name
            )),
        }
    }
}

/// An input or output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// The number of its type in `TensorProto.DataType`.
    pub elem: u64,
    /// Its axes; `None` is one whose length is not fixed.
    pub shape: Vec<Option<u64>>,
}

/// What a type is called.
#[must_use]
pub fn type_name(elem: u64) -> &'static str {
    const NAMES: [&str; 17] = [
        "none",
        "float32",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "int32",
        "int64",
        "string",
        "bool",
        "float16",
        "float64",
        "uint32",
        "uint64",
        "complex64",
        "complex128",
        "bfloat16",
    ];
    usize::try_from(elem).ok().and_then(|at| NAMES.get(at)).copied().unwrap_or("unknown")
}

/// Reads a file.
///
/// # Errors
/// When it is not an ONNX file, or is cut off.
pub fn read(bytes: &[u8]) -> Result<Summary, String> {
    let mut summary = Summary::default();
    let (mut producer, mut version, mut graph) = (String::new(), String::new(), None);
    for field in Fields(bytes) {
        match field? {
            (2, Field::Bytes(text)) => producer = utf8(text)?,
            (3, Field::Bytes(text)) => version = utf8(text)?,
            (7, Field::Bytes(body)) => graph = Some(body),
            (8, Field::Bytes(import)) => {
                let (mut domain, mut number) = (String::new(), 0);
                for field in Fields(import) {
                    match field? {
                        (1, Field::Bytes(text)) => domain = utf8(text)?,
                        (2, Field::Number(n)) => number = n,
                        _ => {}
                    }
                }
                if domain.is_empty() || domain == "ai.onnx" {
                    summary.opset = number;
                }
            }
            (25, Field::Bytes(_)) => {
                return Err("it has functions of its own; export it with them inlined".to_owned());
            }
            _ => {}
        }
    }
    summary.producer = format!("{producer} {version}").trim().to_owned();
    let graph = graph.ok_or("it has no graph; is it an ONNX file?")?;
    read_graph(graph, &mut summary, 0)?;
    Ok(summary)
}

fn read_graph(graph: &[u8], summary: &mut Summary, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("its graphs are nested deeper than {MAX_DEPTH}"));
    }
    let (mut inputs, mut weights) = (Vec::new(), BTreeSet::new());
    for field in Fields(graph) {
        match field? {
            (1, Field::Bytes(node)) => read_node(node, summary, depth)?,
            (5, Field::Bytes(tensor)) => {
                weights.insert(read_weight(tensor, summary)?);
            }
            (11, Field::Bytes(value)) => inputs.push(read_value(value)?),
            (12, Field::Bytes(value)) if depth == 0 => summary.outputs.push(read_value(value)?),
            _ => {}
        }
    }
    if depth == 0 {
        // Old exporters list the weights among the inputs.
        summary.inputs = inputs.into_iter().filter(|v| !weights.contains(&v.name)).collect();
    }
    Ok(())
}

fn read_node(node: &[u8], summary: &mut Summary, depth: usize) -> Result<(), String> {
    let (mut operator, mut domain) = (String::new(), String::new());
    for field in Fields(node) {
        match field? {
            (4, Field::Bytes(text)) => operator = utf8(text)?,
            (7, Field::Bytes(text)) => domain = utf8(text)?,
            (5, Field::Bytes(attribute)) => {
                for field in Fields(attribute) {
                    if let (6 | 11, Field::Bytes(graph)) = field? {
                        read_graph(graph, summary, depth + 1)?;
                    }
                }
            }
            _ => {}
        }
    }
    summary.operators.insert(match domain.as_str() {
        "" | "ai.onnx" => operator,
        domain => format!("{domain}.{operator}"),
    });
    Ok(())
}

/// The name of a weight; its type goes into the summary.
fn read_weight(tensor: &[u8], summary: &mut Summary) -> Result<String, String> {
    let mut name = String::new();
    for field in Fields(tensor) {
        match field? {
            (2, Field::Number(elem)) if matches!(elem, 10 | 14.. | 8) => {
                summary.odd_weights.insert(type_name(elem));
            }
            (8, Field::Bytes(text)) => name = utf8(text)?,
            (14, Field::Number(1)) => summary.external = true,
            _ => {}
        }
    }
    Ok(name)
}

fn read_value(value: &[u8]) -> Result<Value, String> {
    let mut read = Value::default();
    for field in Fields(value) {
        match field? {
            (1, Field::Bytes(text)) => read.name = utf8(text)?,
            (2, Field::Bytes(kind)) => {
                for field in Fields(kind) {
                    if let (1, Field::Bytes(tensor)) = field? {
                        read_tensor_type(tensor, &mut read)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(read)
}

fn read_tensor_type(tensor: &[u8], value: &mut Value) -> Result<(), String> {
    for field in Fields(tensor) {
        match field? {
            (1, Field::Number(elem)) => value.elem = elem,
            (2, Field::Bytes(shape)) => {
                for axis in Fields(shape) {
                    if let (1, Field::Bytes(axis)) = axis? {
                        let mut length = None;
                        for field in Fields(axis) {
                            if let (1, Field::Number(n)) = field? {
                                length = Some(n);
                            }
                        }
                        value.shape.push(length);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a name in it is not UTF-8".to_owned())
}

/// What a field holds.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Numbers of fixed length, of which none is needed here.
    Fixed,
}

/// The fields of a message, by number. The first error ends it.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or_else(|| "it is no ONNX file, or is cut off".to_owned());
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed)?,
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            5 => self.take(4).map(|_| Field::Fixed)?,
            _ => return None,
        };
        Some((tag >> 3, field))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        // Ten groups of seven bits hold 64.
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }
}
