//! Sockets with certificates: rustls with the system's roots, and the ALPN name of VERIFY.
