//! What one store may take: memory and table elements, each summed over all that the component has.

use wasmtime::ResourceLimiter;

/// What is left for one store. A growth beyond it traps: no guest goes on without what it asked for.
pub(super) struct Bounds {
    memory: usize,
    elements: usize,
}

/// The bound that a growth would have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Exceeded {
    #[error("wanted more memory than a policy may have")]
    Memory,
    #[error("wanted more table elements than a policy may have")]
    Elements,
}

impl Bounds {
    /// Octets of all memories together, and elements of all tables, those that the component begins with included.
    pub(super) fn new(memory: usize, elements: usize) -> Bounds {
        Bounds { memory, elements }
    }
}

/// Takes what a growth needs from what is left.
fn take(left: &mut usize, current: usize, desired: usize, exceeded: Exceeded) -> wasmtime::Result<bool> {
    *left = left.checked_sub(desired.saturating_sub(current)).ok_or(exceeded)?;
    Ok(true)
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        take(&mut self.memory, current, desired, Exceeded::Memory)
    }

    /// The pool's slot or the memory's own maximum is smaller still.
    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Exceeded::Memory.into())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        take(&mut self.elements, current, desired, Exceeded::Elements)
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Exceeded::Elements.into())
    }
}
