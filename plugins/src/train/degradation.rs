//! How a health index drifts in a fleet, for machines of which none need have failed.
//!
//! Of every machine (life) with at least three rows, in steps of age `dt` and index `dh`: its drift is rise over age, and the
//! variance of steps is that of all machines around their own drifts, `sum(dh²/dt - rise²/age) / (steps - machines)`, the maximum
//! likelihood but for the degrees of freedom. The mean drift and its variance among machines are the sample's, less what the
//! steps alone would make of it.

use foreline_sdk::degradation::{Degradation, FORMAT, N_FEATURES, Payload as Model, level};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Columns, Fitted, Matrix, Payload, TrainError, parameters};

/// Rows of a machine below which its drift says nothing.
const FEWEST_ROWS: usize = 3;

/// What drifts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// The index itself, evenly.
    #[default]
    Wiener,
    /// Its logarithm: the worse it is, the faster it gets worse.
    Exponential,
}

/// Where the index goes as a machine wears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Up.
    #[default]
    Rising,
    /// Down.
    Falling,
}

/// Parameters of degradation. `features` of the training are two: the health index, and the age in the unit of the life.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DegradationParameters {
    /// What drifts.
    pub model: Course,
    /// The index at which life ends. Needed.
    pub threshold: Option<f64>,
    /// Where the index goes.
    pub direction: Direction,
    /// Of `exponential`: what is taken from the index before its logarithm, such as the level of a new machine's noise.
    pub offset: f64,
    /// The low quantile of the life.
    pub low: f64,
    /// The high quantile of the life.
    pub high: f64,
    /// Rows of a machine before its first answer.
    #[schemars(range(min = 3))]
    pub min_rows: u32,
    /// How sure it must be that a machine drifts towards the threshold, between 0.5 and 1.
    pub sure: f64,
}

impl Default for DegradationParameters {
    fn default() -> Self {
        DegradationParameters {
            model: Course::default(),
            threshold: None,
            direction: Direction::default(),
            offset: 0.0,
            low: 0.1,
            high: 0.9,
            min_rows: 5,
            sure: 0.95,
        }
    }
}

/// The sums of one machine.
#[derive(Debug, Default)]
struct Machine {
    rows: usize,
    first: (f64, f64),
    last: (f64, f64),
    squares: f64,
}

pub(super) fn fit(params: &serde_json::Value, matrix: &Matrix) -> Result<Fitted, TrainError> {
    let given: DegradationParameters = parameters(params)?;
    if matrix.width != N_FEATURES {
        let message = format!(
            "there are {} features; name two, the health index and the age: features: [health, age_h]",
            matrix.width
        );
        return Err(TrainError::Shape(message));
    }
    let threshold = given
        .threshold
        .ok_or_else(|| TrainError::parameter("threshold", "say at which health index life ends"))?;
    let mut model = Model {
        exponential: given.model == Course::Exponential,
        offset: given.offset,
        falling: given.direction == Direction::Falling,
        threshold,
        drift: 0.0,
        drift_variance: 0.0,
        diffusion: 1.0,
        low: given.low,
        high: given.high,
        min_rows: given.min_rows,
        sure: given.sure,
    };
    Degradation::new(model).map_err(TrainError::Failed)?;
    let machines = machines(&model, matrix);
    let steps: usize = machines.iter().map(|m| m.rows - 1).sum();
    if machines.is_empty() || steps <= machines.len() {
        let why = "no machine has three rows with an index and a rising age";
        return Err(TrainError::Failed(why.to_owned()));
    }
    let count = machines.len() as f64;
    let age = |m: &Machine| m.last.1 - m.first.1;
    let drift = |m: &Machine| (m.last.0 - m.first.0) / age(m);
    let own: f64 = machines.iter().map(|m| m.squares - drift(m).powi(2) * age(m)).sum();
    model.diffusion = own / (steps - machines.len()) as f64;
    if model.diffusion <= 0.0 {
        let why = "the index moves without any noise; a line through it needs no model";
        return Err(TrainError::Failed(why.to_owned()));
    }
    model.drift = machines.iter().map(drift).sum::<f64>() / count;
    if machines.len() > 1 {
        let spread = machines.iter().map(|m| (drift(m) - model.drift).powi(2)).sum::<f64>();
        let by_steps = machines.iter().map(|m| model.diffusion / age(m)).sum::<f64>() / count;
        model.drift_variance = (spread / (count - 1.0) - by_steps).max(0.0);
    }
    if model.drift_variance == 0.0 {
        // One machine, or machines that steps alone tell apart: as much is unknown as one of them leaves unknown.
        let ages = machines.iter().map(age).sum::<f64>() / count;
        model.drift_variance = model.diffusion / ages;
    }
    let library = concat!("foreline ", env!("CARGO_PKG_VERSION"));
    let columns = Columns::Life;
    Ok(Fitted { payload: Payload::Degradation(model), format: FORMAT, library, columns })
}

/// The sums of all machines that have enough rows. An age that falls is another life.
fn machines(model: &Model, matrix: &Matrix) -> Vec<Machine> {
    let mut found: Vec<Machine> = Vec::new();
    let mut group = None;
    for (at, row) in matrix.x.chunks_exact(N_FEATURES).enumerate() {
        let Some(level) = level(model, row[0]) else { continue };
        let point = (level, row[1]);
        let own = matrix.groups.get(at).copied();
        let begun = Machine { rows: 1, first: point, last: point, squares: 0.0 };
        match found.last_mut() {
            Some(machine) if group == Some(own) && point.1 > machine.last.1 => {
                let step = point.0 - machine.last.0;
                machine.squares += step * step / (point.1 - machine.last.1);
                machine.rows += 1;
                machine.last = point;
            }
            Some(machine) if group == Some(own) && point.1 == machine.last.1 => {}
            _ => found.push(begun),
        }
        group = Some(own);
    }
    found.retain(|m| m.rows >= FEWEST_ROWS);
    found
}
