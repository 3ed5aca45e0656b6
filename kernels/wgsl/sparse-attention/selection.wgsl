// What selection kernels share: where queries and keys lie, how long batch elements are, which keys a query sees. Stands behind a kernel's
// module; bindings, `Parameters` and the functions that depend on which arguments are given are composed in
// packages/sparse-attention/src/select/webgpu.ts.

const HIDDEN = -1e30;

// Element at which a query starts in q, from the start of the bound range.
fn query_at(batch: u32, head: u32, query: u32) -> u32 {
  var row = (batch * p.heads + head) * p.length_q + query;
  if (p.heads_first == 0u) {
    row = (batch * p.length_q + query) * p.heads + head;
  }
  return q_offset() + row * p.dim - p.first_q;
}

// Row of the key at a position among all rows of the pages; only for positions below the capacity.
fn key_row(batch: u32, kv_head: u32, position: u32) -> u32 {
  return (page_of(batch, position) * p.kv_heads + kv_head) * p.page_size + entry_of(position);
}

// Keys that a query sees: those up to its position.
fn visible(batch: u32, query: u32) -> u32 {
  let queries = queries_of(batch);
  return select(0u, u32(max(i32(keys_of(batch)) - i32(queries) + i32(query) + 1, 0)), query < queries);
}

fn is_finite(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}
