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
                    let field = match &*name.unescaped() {
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
    background: "background",
    container: "container",
    conversation: "conversation",
    data_sources: "data_sources",
    generation_config: "generationConfig",
    generation_config_snake: "generation_config",
    input: "input",
    max_completion_tokens: "max_completion_tokens",
    max_output_tokens: "max_output_tokens",
    max_output_tokens_camel: "maxOutputTokens",
    max_tokens: "max_tokens",
    mcp_servers: "mcp_servers",
    model: "model",
    previous_response_id: "previous_response_id",
    prompt: "prompt",
    seed: "seed",
    store: "store",
    stream: "stream",
    temperature: "temperature",
    tools: "tools",
    web_search_options: "web_search_options",
}
