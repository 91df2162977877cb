//! How large a policy may be. What is larger is refused before it is read, or where it is found.

/// Bytes of a policy's text: AWS's for resource policies, and more than it allows a user's.
pub const POLICY_BYTES: usize = 20_480;
/// Statements of one policy.
pub const STATEMENTS: usize = 256;
/// Values of one element, such as the actions of a statement.
pub const VALUES: usize = 512;
/// Characters of one pattern or value.
pub const VALUE_CHARACTERS: usize = 2_048;
/// Policies of one user.
pub const POLICIES: usize = 20;
