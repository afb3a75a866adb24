//! What a component may be made of.

/// What a component of a policy may be made of, summed over all of its parts; counted before anything is compiled.
#[derive(Clone, Debug)]
pub struct PolicyOutline {
    /// Core modules and inner components. A policy has one to four modules, and one inner component for each interface.
    pub parts: u32,
    /// Instances of modules and components, and what one section of them lists. A policy has some ten.
    pub instances: u32,
    /// Types of the component model, and those of core modules. A policy has some fifty.
    pub types: u32,
    /// Functions of all core modules together. A large policy has a few thousand; each costs the compiler 10 us and some KB,
    /// however short it is.
    pub functions: u32,
    /// Everything else that a section lists: imports, exports, globals, segments, aliases.
    pub items: u32,
    /// Elements of all tables together while it runs: function pointers. A large policy has hundreds.
    pub elements: usize,
}

impl Default for PolicyOutline {
    fn default() -> PolicyOutline {
        PolicyOutline { parts: 16, instances: 256, types: 10_000, functions: 20_000, items: 50_000, elements: 20_000 }
    }
}

impl PolicyOutline {
    /// That of class large: a language and its library have some 15,000 functions.
    pub(super) fn large() -> PolicyOutline {
        PolicyOutline {
            types: 50_000,
            functions: 100_000,
            items: 200_000,
            elements: 100_000,
            ..PolicyOutline::default()
        }
    }
}
