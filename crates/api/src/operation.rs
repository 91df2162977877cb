//! Services and their operations: names, schema, declared errors. Which code answers them lives in `server`.

/// A service as clients address it.
#[derive(Debug, PartialEq, Eq)]
pub struct Service {
    /// In a SigV4 credential scope and in host names, such as `codebuild`.
    pub signing_name: &'static str,
    pub api_version: &'static str,
    pub protocol: Protocol,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Protocol {
    /// AWS JSON 1.1 (AP-001): `X-Amz-Target: <target_prefix>.<Operation>`; where the model declares it, also
    /// smithy-rpc-v2-cbor: `/service/<target_prefix>/operation/<Operation>`.
    Json { target_prefix: &'static str, cbor: bool },
    /// AWS Query: form in, XML out.
    Query { xml_namespace: &'static str },
}

impl Service {
    /// The operation's name in an `X-Amz-Target` header, if the header is this service's.
    pub fn target<'a>(&self, header: &'a str) -> Option<&'a str> {
        match self.protocol {
            Protocol::Json { target_prefix, .. } => header.strip_prefix(target_prefix)?.strip_prefix('.'),
            Protocol::Query { .. } => None,
        }
    }

    /// Whether its model declares smithy-rpc-v2-cbor.
    pub fn speaks_cbor(&self) -> bool {
        matches!(self.protocol, Protocol::Json { cbor: true, .. })
    }

    /// The error code that tells of a request breaking the model's constraints.
    pub fn validation_code(&self) -> &'static str {
        // COMPAT: AP-004 the code differs by service; the message has the same form everywhere.
        match self.signing_name {
            "logs" => "InvalidParameterException",
            "sts" => "ValidationError",
            _ => "ValidationException",
        }
    }
}

macro_rules! operations {
    ($service:ident; $($name:ident($input:ident) -> $output:ident | [$($error:literal),*];)*) => {
        /// The operations of this service.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Operation {
            $($name,)*
        }

        impl Operation {
            /// Every operation, in the model's order.
            pub const ALL: &'static [Operation] = &[$(Operation::$name),*];

            /// The operation's name as it ends an `X-Amz-Target`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Operation::$name => stringify!($name),)*
                }
            }

            pub fn from_name(name: &str) -> Option<Operation> {
                match name {
                    $(stringify!($name) => Some(Operation::$name),)*
                    _ => None,
                }
            }

            pub fn input(self) -> &'static $crate::schema::Shape {
                match self {
                    $(Operation::$name => <$input as $crate::schema::Shaped>::shape(),)*
                }
            }

            pub fn output(self) -> &'static $crate::schema::Shape {
                match self {
                    $(Operation::$name => <$output as $crate::schema::Shaped>::shape(),)*
                }
            }

            /// Codes of the errors this operation declares, beyond those every operation may answer.
            pub fn errors(self) -> &'static [&'static str] {
                match self {
                    $(Operation::$name => &[$($error),*],)*
                }
            }

            pub fn service(self) -> &'static $crate::operation::Service {
                &$service
            }

            /// The request with everything unknown or null left out: requests that mean the same are equal.
            ///
            /// # Errors
            /// As [`json::decode`](crate::json::decode).
            pub fn canonical_input(self, request: serde_json::Value) -> Result<serde_json::Value, $crate::Error> {
                match self {
                    $(Operation::$name => $crate::json::canonical::<$input>(request),)*
                }
            }
        }
    };
}
pub(crate) use operations;
