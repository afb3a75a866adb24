//! The components that ship with the library, where its feature `shipped` takes them in.

#[cfg(feature = "shipped")]
macro_rules! shipped {
    ($($id:literal)*) => {
        /// The components that ship, by id.
        pub(super) const SHIPPED: &[(&str, &[u8])] = &[$(($id, include_bytes!(concat!("../../shipped/", $id, ".wasm")))),*];
    };
}
#[cfg(feature = "shipped")]
shipped! {
    "accept" "mark" "quarantine" "reject-silently" "reject-notify-sender" "reject-notify-recipient"
    "reject-notify-both" "missing-direct"
    "missing-known" "rules"
}
/// None: a program that takes the library without them names its own files.
#[cfg(not(feature = "shipped"))]
pub(super) const SHIPPED: &[(&str, &[u8])] = &[];

/// The octets of the `rules` that ship.
pub(super) fn rules() -> Option<&'static [u8]> {
    SHIPPED.iter().find(|(id, _)| *id == "rules").map(|(_, octets)| *octets)
}

/// The ids of the shipped components.
pub(super) fn ids() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(id, _)| *id)
}
