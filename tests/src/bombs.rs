//! Components that are small and cost a compiler gigabytes or minutes (attack K15), written octet by octet.

/// A component with its name for a failing test.
pub type Bomb = (&'static str, Vec<u8>);

/// LEB128, as WebAssembly writes numbers.
fn leb(mut number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (number & 127) as u8;
        number >>= 7;
        out.push(if number == 0 { low } else { low | 128 });
        if number == 0 {
            return out;
        }
    }
}

/// A list: its length and its members.
fn list(members: &[Vec<u8>]) -> Vec<u8> {
    [leb(members.len()), members.concat()].concat()
}

fn section(id: u8, body: &[u8]) -> Vec<u8> {
    [&[id], leb(body.len()).as_slice(), body].concat()
}

fn component(sections: &[Vec<u8>]) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0".to_vec(), sections.concat()].concat()
}

/// A component that holds this component and instantiates it so often.
fn around(inner: &[u8], times: usize) -> Vec<u8> {
    let instances = list(&vec![b"\0\0\0".to_vec(); times]);
    component(&[section(4, inner), section(5, &instances)])
}

/// Component in component, so deep.
fn nested(depth: usize, times: usize) -> Vec<u8> {
    (0..depth).fold(component(&[]), |inner, _| around(&inner, times))
}

/// Components side by side, of which each instantiates the one before it so often.
fn beside(count: usize, times: usize) -> Vec<u8> {
    let instances = section(5, &list(&vec![b"\0\0\0".to_vec(); times]));
    let next = |index: usize| {
        // Alias of a component (4) that the outer one (2) holds, one step out.
        let alias = [b"\x04\x02\x01".to_vec(), leb(index - 1)].concat();
        section(4, &component(&[section(6, &list(&[alias])), instances.clone()]))
    };
    let all: Vec<Vec<u8>> = (1..count).map(next).collect();
    component(&[
        section(4, &component(&[])),
        all.concat(),
        section(5, &list(&[[b"\0\0".to_vec(), leb(count - 1)].concat()])),
    ])
}

/// A component of one core module with these functions, all of one type: no result, and so many i32 parameters.
fn module(bodies: &[Vec<u8>], parameters: usize) -> Vec<u8> {
    let kind = [b"\x60".to_vec(), list(&vec![b"\x7f".to_vec(); parameters]), b"\0".to_vec()].concat();
    let code: Vec<Vec<u8>> = bodies.iter().map(|body| [leb(body.len()), body.clone()].concat()).collect();
    let sections =
        [section(1, &list(&[kind])), section(3, &list(&vec![b"\0".to_vec(); bodies.len()])), section(10, &list(&code))];
    component(&[section(1, &[b"\0asm\x01\0\0\0".to_vec(), sections.concat()].concat())])
}

/// A function with so many i32 locals and this code.
fn function(locals: usize, code: &[u8]) -> Vec<u8> {
    let declared = if locals == 0 { list(&[]) } else { list(&[[leb(locals), b"\x7f".to_vec()].concat()]) };
    [declared.as_slice(), code, b"\x0b"].concat()
}

/// 6 KB and less: components in components.
pub fn of_components() -> Vec<Bomb> {
    vec![
        ("26 deep, twice each", nested(26, 2)),
        ("10 deep, 8 times each", nested(10, 8)),
        ("150 deep, 10 times each", nested(150, 10)),
        ("300 deep", nested(300, 1)),
        ("16 side by side, twice each", beside(16, 2)),
        ("6 side by side, 100 times each", beside(6, 100)),
        ("300 side by side, twice each", beside(300, 2)),
    ]
}

/// Too many of something that costs the compiler memory each.
pub fn of_many() -> Vec<Bomb> {
    vec![
        ("180,000 functions", module(&vec![function(0, b""); 180_000], 0)),
        ("100,000 functions of 1,000 parameters", module(&vec![function(0, b""); 100_000], 1_000)),
        ("230,000 types", {
            let types = section(1, &list(&vec![b"\x60\0\0".to_vec(); 230_000]));
            component(&[section(1, &[b"\0asm\x01\0\0\0".to_vec(), types].concat())])
        }),
        ("1,000 modules", component(&vec![section(1, b"\0asm\x01\0\0\0"); 1_000])),
    ]
}

/// Up to 720 KB of code that a look at the outline finds nothing wrong with.
pub fn of_code() -> Vec<Bomb> {
    let at = |index: usize| leb(index);
    let ifs: Vec<u8> = (0..60_000)
        .flat_map(|n| [b"\x20\0\x04\x40\x41\x01\x21".to_vec(), at(n % 5_000), b"\x0b".to_vec()].concat())
        .collect();
    let loops: Vec<u8> = (0..1_000)
        .flat_map(|n| [b"\x03\x40\x20".to_vec(), at(n), b"\x21".to_vec(), at(n * 7 % 1_000)].concat())
        .chain(*b"\x0c\0")
        .chain([0x0b; 1_000])
        .collect();
    vec![
        ("19,000 functions of 49,990 locals", module(&vec![function(49_990, b"\x41\0\x1a"); 19_000], 0)),
        ("19,000 functions of 1,000 parameters", module(&vec![function(0, b""); 19_000], 1_000)),
        ("60,000 branches over 5,000 locals", module(&[function(5_000, &ifs)], 0)),
        ("80 functions of 1,000 loops over 1,000 locals", module(&vec![function(1_000, &loops); 80], 0)),
        ("700 KB of calls", module(&[function(0, &b"\x10\0".repeat(360_000))], 0)),
    ]
}
