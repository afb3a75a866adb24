//! What a configuration allows and yet probably does not mean.

use super::Config;
use crate::proto::address::is_host_name;

impl Config {
    /// That the host name is none by which others know this host, where that is so.
    pub fn host_name_warning(&self) -> Option<String> {
        let name = &self.hostname;
        if is_host_name(name) {
            return None;
        }
        let way = "set hostname to this server's full name, such as \"mx.example.com\"";
        Some(if self.hostname_assumed {
            format!(
                "hostname is not set, and the system's, {name:?}, is no full name: where the mail server tells its own, that \
                 stands in by= and in notices; {way}"
            )
        } else {
            format!("hostname = {name:?} is no full name, and stands in by= and in notices: {way}")
        })
    }
}
