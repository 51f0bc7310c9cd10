(component
    (core module $m
        (func (export "f") (result i32) i32.const 0)
        (memory (export "memory") 1))
    (core instance $i (instantiate $m))
    (func $tick (result (result (error string)))
        (canon lift (core func $i "f") (memory (core memory $i "memory"))))
    (instance $tick-interface (export "on-tick" (func $tick)))
    (export "stile:plugin/tick@0.1.0" (instance $tick-interface)))
