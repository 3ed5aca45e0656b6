// Groups of GROUP weights with integer codes: f32 scale, f32 offset, CODE_WORDS words of codes per 32. Behind the file of the codes' bits.
fn load_codes(row: u32, index: u32) -> Codes {
  let units = GROUP / 32u;
  let at = row / 4u + index / units * (2u + units * CODE_WORDS);
  let first = at + 2u + index % units * CODE_WORDS;
  let scale = bitcast<f32>(weights[at]);
  let offset = bitcast<f32>(weights[at + 1u]);
  return Codes(low_codes(first), high_codes(first), vec2f(scale), vec2f(offset));
}
