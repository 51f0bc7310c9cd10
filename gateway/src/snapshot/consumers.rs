//! Consumers as plugins may ask for them: `access` knows no plugin, and a plugin no `access`.

use std::time::SystemTime;

use crate::{
    access::{self, Access},
    exchange::Consumer,
    plugin::{Consumers, Presented, Verified},
};

impl Consumers for Access {
    fn verify(&self, presented: Presented) -> Verified<'_> {
        Box::pin(async move {
            let shown = match &presented {
                Presented::ApiKey(key) => access::Presented::ApiKey(key),
                Presented::Basic { username, password } => access::Presented::Basic { username, password },
                Presented::Hmac { key_id, message, signature } => {
                    access::Presented::Hmac { key_id, message, signature }
                }
                Presented::Jwt { issuer, subject } => access::Presented::Jwt { issuer, subject },
                Presented::Certificate(subject) => access::Presented::Certificate { subject },
            };
            let found = Self::verify(self, shown, SystemTime::now()).await?;
            let (consumer, credential) = (&found.consumer, found.id.to_string());
            let groups = consumer.groups.iter().map(|group| group.to_string()).collect();
            Some(Consumer { name: consumer.name.to_string(), groups, credential })
        })
    }
}
