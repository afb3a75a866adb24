//! Load components, bind them to results, decide in the sandbox.
