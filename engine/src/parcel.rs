//! What timely carries from one step to the next.

use timely::Accountable;
use timely::bytes::arc::Bytes;
use timely::dataflow::channels::ContainerBytes;

use crate::batch::Batch;
use crate::dead::DeadLetter;
use crate::watermarks::Watermarks;
