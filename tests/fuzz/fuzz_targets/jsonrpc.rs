#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leyden_fuzz::jsonrpc(bytes));
