// Nibbles that stand for levels: byte i of the table's words is level i, in two's complement.
const BIAS = 0;

fn levels(codes: vec4u, table: vec4u) -> vec4u {
  return vec4u(level(codes.x, table), level(codes.y, table), level(codes.z, table), level(codes.w, table));
}

// Of the low nibbles of four bytes.
fn level(codes: u32, table: vec4u) -> u32 {
  let four = (vec4u(codes) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(15u);
  let words = vec4u(table[four.x / 4u], table[four.y / 4u], table[four.z / 4u], table[four.w / 4u]);
  return dot((words >> (8u * (four % vec4u(4u)))) & vec4u(255u), vec4u(1u, 1u << 8u, 1u << 16u, 1u << 24u));
}

// 32 weights in 16 bytes from byte `at`: the low nibbles are weights 0 … 15, the high ones 16 … 31.
fn table_codes(at: u32, table: vec4u, scale: f32) -> Codes {
  let nibbles = words_at(at);
  return Codes(levels(nibbles, table), levels(nibbles >> vec4u(4u), table), vec2f(scale), vec2f(0.0));
}

// −127 −104 −83 −65, −49 −35 −22 −10, 1 13 25 38, 53 69 89 113.
const NON_LINEAR = vec4u(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
// E2M1, doubled: 0 1 2 3, 4 6 8 12, 0 −1 −2 −3, −4 −6 −8 −12.
const FP4 = vec4u(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu);
