//! Every bound this crate sets on its input, by name. Crossing one is an error that says which.

/// Bytes in a buildspec's text.
pub const TEXT_BYTES: usize = 1024 * 1024;

/// Lists and maps inside one another, aliases followed.
pub const DEPTH: usize = 64;

/// What aliases may bring in on top of the text itself: bytes of text, and [`NODE_COST`] for each value.
pub const ALIASED_BYTES: usize = 1024 * 1024;

/// What one value counts towards [`ALIASED_BYTES`] besides its text.
pub const NODE_COST: usize = 16;

/// Errors kept for one buildspec: whoever mends so many looks again.
pub const ERRORS: usize = 100;

/// Warnings kept for one buildspec; the rest are counted, not kept.
pub const WARNINGS: usize = 100;

/// Report groups in one buildspec (BS-111).
pub const REPORT_GROUPS: usize = 5;

/// `cache.fallback-keys` in one buildspec (BS-153).
pub const FALLBACK_KEYS: usize = 5;

/// Highest count of `on-failure: RETRY-<count>` (BS-083).
pub const RETRY_COUNT: u32 = 100;

/// Bytes of an `on-failure` pattern once compiled; also bounds the time to compile it.
pub const RETRY_PATTERN_BYTES: usize = 256 * 1024;

/// Groups inside one another in an `on-failure` pattern.
pub const RETRY_PATTERN_DEPTH: u32 = 50;

/// Builds in one batch; AWS allows as many.
pub const BATCH_BUILDS: usize = 100;

/// Runtimes that an image's `runtimes.yml` may offer; each may require another, and that yet another.
pub const RUNTIMES: usize = 256;

/// Bytes in a glob pattern.
pub const GLOB_BYTES: usize = 4096;

/// Patterns the braces of one glob pattern may stand for.
pub const GLOB_ALTERNATIVES: usize = 256;

/// Bytes in a text after [`crate::substitute::expand`].
pub const EXPANDED_BYTES: usize = 64 * 1024;

/// Characters of a user's text quoted in a message.
pub const QUOTED_CHARS: usize = 100;
