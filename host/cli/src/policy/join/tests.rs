use wasmtime::{Engine, Instance, Store};

use super::*;

/// Two libraries over one memory, as the tools link them: what they import comes by names of names, by a table that is filled last, or
/// from nowhere.
const LINKED: &str = r#"(component
    (import "ask" (func $ask (param "x" u32) (result u32)))
    (core module $main
        (memory (export "memory") 1) (data (i32.const 16) "\07")
        (table (export "table") 8 funcref)
        (global (export "base") i32 (i32.const 8)) (global (export "sum") (mut i32) (i32.const 0)))
    (core module $shim
        (type $t (func (param i32) (result i32)))
        (table (export "$imports") 1 1 funcref)
        (func (export "0") (type $t) (call_indirect (type $t) (local.get 0) (i32.const 0))))
    (core module $first
        (import "env" "memory" (memory 1)) (import "env" "table" (table 8 funcref))
        (import "env" "base" (global $base i32)) (import "env" "sum" (global $sum (mut i32)))
        (global $place i32 (i32.add (global.get $base) (i32.const 8)))
        (elem (offset (i32.sub (global.get $base) (i32.const 7))) func $seven)
        (func $seven (result i32) (i32.load8_u (global.get $place)))
        (func $start (global.set $sum (i32.add (global.get $sum) (i32.const 1))))
        (start $start)
        (func (export "seven") (result i32) (call_indirect (result i32) (i32.const 1))))
    (core module $second
        (type $unused (func (param f64)))
        (import "env" "sum" (global $sum (mut i32))) (import "first" "seven" (func $seven (result i32)))
        (import "host" "ask" (func $ask (param i32) (result i32)))
        (func $start (global.set $sum (i32.mul (global.get $sum) (i32.const 10))))
        (start $start)
        (func (export "a:b/c#decide") (result i32) (i32.add (call $seven) (global.get $sum)))
        (func (export "a:b/c#ask") (result i32) (call $ask (i32.const 1)))
        (func (export "cabi_post_a:b/c#decide") (param i32))
        (func (export "own") (result i32) (i32.const 1)))
    (core module $fixup
        (import "" "$imports" (table 1 funcref)) (import "" "0" (func $f (param i32) (result i32)))
        (elem (i32.const 0) func $f))
    (core instance $main (instantiate $main))
    (core instance $shim (instantiate $shim))
    (core instance $env
        (export "memory" (memory $main "memory")) (export "table" (table $main "table"))
        (export "base" (global $main "base")) (export "sum" (global $main "sum")))
    (core instance $first (instantiate $first (with "env" (instance $env))))
    (core instance $host (export "ask" (func $shim "0")))
    (core instance $second (instantiate $second
        (with "env" (instance $env)) (with "first" (instance $first)) (with "host" (instance $host))))
    (core func $lowered (canon lower (func $ask)))
    (core instance $last (export "$imports" (table $shim "$imports")) (export "0" (func $lowered)))
    (core instance (instantiate $fixup (with "" (instance $last))))
    (func (export "decide") (result u32)
        (canon lift (core func $second "a:b/c#decide") (memory (core memory $main "memory"))
            (post-return (core func $second "cabi_post_a:b/c#decide"))))
    (func (export "ask-it") (result u32) (canon lift (core func $second "a:b/c#ask")))
    (func (export "own") (result u32) (canon lift (core func $second "own"))))"#;

#[test]
fn linked_modules_become_one_that_imports_nothing_and_does_the_same() {
    let module = one_module(&wat::parse_str(LINKED).unwrap()).unwrap();
    let engine = Engine::default();
    let module = wasmtime::Module::from_binary(&engine, &module).unwrap();
    assert_eq!(module.imports().len(), 0);
    let mut names: Vec<&str> = module.exports().map(|export| export.name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a:b/c#ask", "a:b/c#decide", "cabi_post_a:b/c#decide", "memory"]);
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let mut call = |name: &str| {
        let function = instance.get_typed_func::<(), i32>(&mut store, name).unwrap();
        function.call(&mut store, ())
    };
    // The first start adds, the second multiplies.
    assert_eq!(call("a:b/c#decide").unwrap(), 7 + 10);
    let trap = call("a:b/c#ask").unwrap_err();
    assert_eq!(trap.downcast_ref::<wasmtime::Trap>(), Some(&wasmtime::Trap::UnreachableCodeReached), "{trap:?}");
}

#[test]
fn what_no_tool_makes_is_an_error_and_no_panic() {
    let cases = [
        ("(component)", "no function of the contract"),
        ("(component (import \"m\" (core module)))", "modules from outside"),
        (
            "(component (core module $m (func (export \"own\") (result i32) (i32.const 1))) (core instance $i (instantiate $m))
                (func (export \"own\") (result u32) (canon lift (core func $i \"own\"))))",
            "no function of the contract",
        ),
    ];
    for (text, why) in cases {
        let said = one_module(&wat::parse_str(text).unwrap());
        assert!(said.as_ref().is_err_and(|odd| odd.to_string().contains(why)), "{text}: {said:?}");
    }
    let octets = wat::parse_str(LINKED).unwrap();
    for end in (0..octets.len()).step_by(7) {
        let cut = one_module(&octets[..end]);
        // The names at the end may be cut off between two sections.
        assert!(cut.is_err() || end > octets.len() / 2, "{end}");
    }
}
