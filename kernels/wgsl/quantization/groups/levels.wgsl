// Nibbles that stand for levels: byte i of the table's words is level i, in two's complement.
fn table_levels(codes: u32, table: vec4u) -> vec4f {
  let four = (vec4u(codes) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(15u);
  let words = vec4u(table[four.x / 4u], table[four.y / 4u], table[four.z / 4u], table[four.w / 4u]);
  return vec4f(bitcast<vec4i>((words >> (8u * (four % vec4u(4u)))) << vec4u(24u)) >> vec4u(24u));
}

// 32 weights in 16 bytes from byte `at`: the low nibbles are weights 0 … 15, the high ones 16 … 31.
fn table_group(at: u32, table: vec4u, scale: f32) -> Group {
  let w0 = word_at(at);
  let w1 = word_at(at + 4u);
  let w2 = word_at(at + 8u);
  let w3 = word_at(at + 12u);
  return Group(
    table_levels(w0, table),
    table_levels(w1, table),
    table_levels(w2, table),
    table_levels(w3, table),
    table_levels(w0 >> 4u, table),
    table_levels(w1 >> 4u, table),
    table_levels(w2 >> 4u, table),
    table_levels(w3 >> 4u, table),
    vec2f(scale),
    vec2f(0.0),
  );
}

// −127 −104 −83 −65, −49 −35 −22 −10, 1 13 25 38, 53 69 89 113.
const NON_LINEAR = vec4u(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
// E2M1, doubled: 0 1 2 3, 4 6 8 12, 0 −1 −2 −3, −4 −6 −8 −12.
const FP4 = vec4u(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu);
