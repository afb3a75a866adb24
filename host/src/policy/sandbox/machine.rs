//! The machine that components run on: its room, its bounds, and whether it interprets or compiles.

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::config::{Limits, Size};

/// Octets of an instance's memory that stay resident between two decisions: more than a Rust or C policy has at all, so
/// that a fresh instance costs a memset and no system call, and as much as one in JavaScript has. In class large most of a memory is
/// never written: there the kernel says which pages were, where it can (Linux 6.7), and these alone are put back.
const KEEP_RESIDENT: usize = 2 << 20;
/// The same of a table.
const KEEP_TABLE: usize = 128 * 1024;
/// Core instances and tables in one component. A policy has one module; a component without imports has one
/// table, one with adapters two.
const PARTS: u32 = 4;
/// Tables in one module: in a linked one the second holds what it would import.
const TABLES: u32 = 2;
/// Memories in one component. Together they have the room of one.
const MEMORIES: u32 = 2;
/// Places for memories, and as many for tables. Far fewer are in use at a time, but from 128 on the library shares the places out
/// among the processors, and each thread takes those of its own share. Below that, two threads hand each other the memory that
/// they have just cleared, and together they decide no more than one alone.
const PLACES: u32 = 128;
/// Address space behind each memory that is never mapped: what a constant offset can reach needs no bounds check.
const GUARD: u64 = 32 << 20;
/// The machine that wasmtime interprets, with this machine's words.
const INTERPRETED: &str = match (cfg!(target_pointer_width = "64"), cfg!(target_endian = "big")) {
    (true, false) => "pulley64",
    (true, true) => "pulley64be",
    (false, false) => "pulley32",
    (false, true) => "pulley32be",
};

/// Octets of address space for all else in a process: its code, its threads' stacks, and what its allocator takes beforehand
/// (1 GiB in the program `addrauth`).
pub(super) const BESIDE: u64 = 2 << 30;

/// Octets of address space that the pool reserves, nearly all of it never touched.
pub(super) fn address_space(limits: &Limits) -> u64 {
    u64::from(places(limits)).saturating_mul(reservation(limits).saturating_add(GUARD))
}

/// Octets of address space for one memory: all that it may grow to. Compiled code checks each access against its size; the
/// library's default of 4 GiB spares the check, and takes half a TiB for as many places.
fn reservation(limits: &Limits) -> u64 {
    u64::try_from(limits.policy.memory).unwrap_or(u64::MAX)
}

/// Instances at a time: one for each thread that decides, and one each for loading, for candidates and for reading a user's text.
fn instances(limits: &Limits) -> u32 {
    u32::try_from(limits.policy.threads).unwrap_or(u32::MAX).saturating_add(3)
}

/// Places for memories, and as many for tables.
pub(super) fn places(limits: &Limits) -> u32 {
    let needed = instances(limits).saturating_mul(PARTS.max(MEMORIES));
    match limits.policy.size {
        Size::Small => PLACES.max(needed),
        // Few threads decide, and each of these places is dear.
        Size::Large => needed,
    }
}

/// The instances that may be there at a time are few; the places that they are put in are many, and one that was used stays warm
/// for the same policy on the same thread: at most [`KEEP_RESIDENT`] of memory in each, and of what the policy has.
pub(super) fn pool(limits: &Limits) -> InstanceAllocationStrategy {
    let (instances, places) = (instances(limits), places(limits));
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(PARTS))
        .total_memories(places)
        .total_tables(places)
        .max_core_instances_per_component(PARTS)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(PARTS)
        .max_tables_per_module(TABLES)
        .max_memory_size(limits.policy.memory)
        .table_elements(limits.policy.outline.elements)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_TABLE)
        .pagemap_scan(if limits.policy.size == Size::Large { Enabled::Auto } else { Enabled::No })
        .max_unused_warm_slots(places);
    InstanceAllocationStrategy::Pooling(pool)
}

/// Deterministic and bounded; the same code wherever instances live.
pub(super) fn settings(allocation: InstanceAllocationStrategy, limits: &Limits) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    if limits.policy.interpreter {
        config.target(INTERPRETED)?;
    }
    config
        .allocation_strategy(allocation)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .epoch_interruption(true)
        .memory_reservation(reservation(limits))
        .memory_guard_size(GUARD)
        .max_wasm_stack(limits.policy.stack)
        .wasm_backtrace_max_frames(None);
    Ok(config)
}
