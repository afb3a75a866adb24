//! What we still have to send: composed here, sent over SMTP.
