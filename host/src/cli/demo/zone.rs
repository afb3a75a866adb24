//! A DNS server on loopback with a few TXT and address records.
