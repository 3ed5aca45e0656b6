use crate::OpSpec;

pub const OPS: &[OpSpec] = &[];
