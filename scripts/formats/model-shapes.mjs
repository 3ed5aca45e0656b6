/** Linear layers of a block of two small models, [outputs, inputs] by their GGUF name; from the `config.json` they are published with. */
export const models = [
  {
    name: 'SmolLM2-135M',
    blocks: 30,
    // 9 query and 3 key-value heads of 64.
    linear: {
      attn_q: [576, 576],
      attn_k: [192, 576],
      attn_v: [192, 576],
      attn_output: [576, 576],
      ffn_gate: [1536, 576],
      ffn_up: [1536, 576],
      ffn_down: [576, 1536],
    },
  },
  {
    name: 'Gemma 3 270M',
    blocks: 18,
    // 4 query heads and 1 key-value head of 256.
    linear: {
      attn_q: [1024, 640],
      attn_k: [256, 640],
      attn_v: [256, 640],
      attn_output: [640, 1024],
      ffn_gate: [2048, 640],
      ffn_up: [2048, 640],
      ffn_down: [640, 2048],
    },
  },
];
