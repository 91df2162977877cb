//! The generated contracts as their callers meet them: messages, samples, and properties of all operations.

mod properties;
mod samples;
mod violations;
