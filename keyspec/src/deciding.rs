//! The members of a request that decide on reuse and storing, beside its key.

use crate::json::{Object, Value, View};

/// Declares [`Deciding`]: a field for each member, and the names that it goes by.
macro_rules! deciding {
    ($($field:ident: $name:literal,)+) => {
        /// What an object says of what decides. A member that is null counts as absent: to every
        /// provider the two mean the same.
        #[derive(Clone, Copy, Default)]
        pub(crate) struct Deciding<'d> {
            $(pub(crate) $field: Option<Value<'d>>,)+
        }

        impl<'d> Deciding<'d> {
            /// One pass over the members, whose names are looked at once: to ask for each by its
            /// name took longer than all else that is done with them.
            pub(crate) fn of(object: Object<'d>) -> Self {
                let mut deciding = Self::default();
                for (name, value) in object.members() {
                    let unescaped;
                    let name = match name.plain_bytes() {
                        Some(plain) => plain,
                        None => {
                            unescaped = name.unescaped();
                            unescaped.as_bytes()
                        }
                    };
                    let field = match name {
                        $($name => &mut deciding.$field,)+
                        _ => continue,
                    };
                    if !matches!(value.view(), View::Null) {
                        *field = Some(value);
                    }
                }
                deciding
            }
        }
    };
}

deciding! {
    background: b"background",
    container: b"container",
    conversation: b"conversation",
    data_sources: b"data_sources",
    enable_search: b"enable_search",
    generation_config: b"generationConfig",
    generation_config_snake: b"generation_config",
    input: b"input",
    max_completion_tokens: b"max_completion_tokens",
    max_output_tokens: b"max_output_tokens",
    max_output_tokens_camel: b"maxOutputTokens",
    max_tokens: b"max_tokens",
    mcp_servers: b"mcp_servers",
    model: b"model",
    plugins: b"plugins",
    previous_response_id: b"previous_response_id",
    prompt: b"prompt",
    search_parameters: b"search_parameters",
    seed: b"seed",
    store: b"store",
    stream: b"stream",
    temperature: b"temperature",
    tools: b"tools",
    web_search_options: b"web_search_options",
}
