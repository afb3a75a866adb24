//! The allocator of a component: 24 KiB handed out from the bottom up and never taken back.
//!
//! An instance lives for one call, so nothing needs freeing; and a memory that does not grow is what makes a fresh
//! instance cheap. When the arena is full, the memory grows page by page; when the host allows no more, the allocation
//! fails, which Rust turns into a trap: the host's configured failure decision applies.

#![allow(unsafe_code, reason = "an allocator is unsafe by its trait; this is the only file of the crate that may")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr::null_mut;

const SIZE: usize = 24 * 1024;
const PAGE: usize = 64 * 1024;

#[repr(align(16))]
struct Arena {
    octets: UnsafeCell<[u8; SIZE]>,
    /// The first free address and the first one beyond; 0 and 0 until the first allocation.
    free: UnsafeCell<(usize, usize)>,
}

// SAFETY: a component has one thread; the contract's world has no way to start another.
unsafe impl Sync for Arena {}

#[global_allocator]
static ARENA: Arena = Arena { octets: UnsafeCell::new([0; SIZE]), free: UnsafeCell::new((0, 0)) };

impl Arena {
    /// Takes `size` octets from a new stretch of memory, for an arena that is full.
    #[cold]
    fn grow(&self, size: usize) -> Option<(usize, usize)> {
        let pages = size.div_ceil(PAGE);
        let before = core::arch::wasm32::memory_grow(0, pages);
        if before == usize::MAX {
            return None;
        }
        let start = before.checked_mul(PAGE)?;
        Some((start, start.checked_add(pages.checked_mul(PAGE)?)?))
    }
}

// SAFETY: every block lies within the arena or within pages that `memory.grow` gave us alone, starts at a multiple of
// its alignment, and overlaps no other: `free` only moves up, except back to the start of the block handed out last.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread, and no reference to `free` outlives this function.
        let free = unsafe { &mut *self.free.get() };
        if free.1 == 0 {
            let start = self.octets.get() as usize;
            *free = (start, start + SIZE);
        }
        let fits = |(at, end): (usize, usize)| {
            let start = at.checked_add(layout.align() - 1)? & !(layout.align() - 1);
            let stop = start.checked_add(layout.size())?;
            (stop <= end).then_some((start, stop))
        };
        if let Some((start, stop)) = fits(*free) {
            free.0 = stop;
            return start as *mut u8;
        }
        let Some(grown) = layout.size().checked_add(layout.align()).and_then(|size| self.grow(size)) else {
            return null_mut();
        };
        match fits(grown) {
            Some((start, stop)) => {
                *free = (stop, grown.1);
                start as *mut u8
            }
            None => null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        let free = unsafe { &mut *self.free.get() };
        if block as usize + layout.size() == free.0 {
            free.0 = block as usize;
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let free = unsafe { &mut *self.free.get() };
        let start = block as usize;
        let last = start + layout.size() == free.0;
        if let Some(stop) = start.checked_add(size).filter(|stop| last && *stop <= free.1) {
            free.0 = stop;
            return block;
        }
        // SAFETY: the caller vouches for `size` with this alignment; both blocks hold at least the smaller size, and a
        // block handed out now cannot overlap one that is still out.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(block, new, size.min(layout.size()));
            }
            new
        }
    }
}
