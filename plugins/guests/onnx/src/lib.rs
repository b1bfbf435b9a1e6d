//! The `onnx` plugin: a neural network as PyTorch and others export it, run by tract.
//!
//! The network is fixed to a batch of one and its window before it is optimised, and run row by row: by construction
//! its answers do not depend on how rows are cut into calls. State, scaling and classes are those of
//! [`foreline_sdk::network`], the same code that the importer checks with.

use std::sync::Arc;

use foreline_sdk::network::{FORMAT, Network, Payload, onnx};
use foreline_sdk::weights::{Family, Weights};
use foreline_sdk::{Call, Config, Error, Model};
use tract_onnx::prelude::*;

struct Onnx {
    network: Network,
    plan: Arc<TypedRunnableModel>,
    shape: Vec<usize>,
}

impl Model for Onnx {
    const FAMILY: Family = Family::Network;

    fn load(weights: &Weights<'_>, config: &Config) -> Result<Self, Error> {
        config.only(&[])?;
        if weights.header.format != FORMAT {
            let found = weights.header.format;
            return Err(Error::InvalidWeights(format!("format {found}; this reads {FORMAT}")));
        }
        let payload: Payload = weights.payload()?;
        let network = Network::new(&payload, &weights.header).map_err(Error::InvalidWeights)?;
        let shape = network.shape();
        let plan =
            plan(&payload.onnx, &shape, network.n_numbers()).map_err(Error::InvalidWeights)?;
        Ok(Onnx { network, plan, shape })
    }

    fn score(&self, call: Call<'_>) -> Result<(), Error> {
        let failed = |e: TractError| Error::Internal(format!("the network failed: {e:#}"));
        self.network.score(call, |input| {
            let input = Tensor::from_shape(&self.shape, input).map_err(failed)?;
            let answer = self.plan.run(tvec!(input.into())).map_err(failed)?;
            let numbers = answer[0].cast_to::<f32>().map_err(failed)?;
            let numbers = numbers.try_as_plain_ram().map_err(failed)?;
            Ok(numbers.as_slice::<f32>().map_err(failed)?.to_vec())
        })
    }
}

/// The network ready to run on inputs of `shape`, with `n_numbers` that come out.
fn plan(
    bytes: &[u8],
    shape: &[usize],
    n_numbers: usize,
) -> Result<Arc<TypedRunnableModel>, String> {
    // What the file notes of shapes in between may name the batch axis, which is 1 here; tract finds them itself.
    let tract = tract_onnx::onnx().with_ignore_value_info(true);
    let summary = onnx::read(bytes)?;
    summary.check()?;
    let unknown = |name: &&String| !tract.op_register.0.contains_key(*name);
    if let Some(operator) = summary.operators.iter().find(unknown) {
        return Err(format!("it has the operator '{operator}', which is not supported"));
    }
    let failed = |e: TractError| format!("the network cannot be run: {e:#}");
    let mut model = tract.model_for_read(&mut &*bytes).map_err(failed)?;
    model.set_input_fact(0, f32::fact(shape).into()).map_err(failed)?;
    // What the file says of its outputs may still name the batch axis.
    model.set_output_fact(0, Default::default()).map_err(failed)?;
    let model = model.into_optimized().map_err(failed)?;
    let output = model.output_fact(0).map_err(failed)?;
    let shape = output.shape.as_concrete();
    let size: usize = shape
        .ok_or(
            "it answers more numbers the more it is given; export it with an output of fixed size",
        )?
        .iter()
        .product();
    if size != n_numbers {
        return Err(format!("the network answers {size} numbers, and {n_numbers} are named"));
    }
    model.into_runnable().map_err(failed)
}

foreline_sdk::plugin!(Onnx);
