/**
 * Texts of control tokens that end a turn, a message or a text, or begin what is no answer any more (another file, padding), in the model
 * families that use them. The list is that of llama.cpp.
 */
export const endOfGenerationTexts: readonly string[] = [
  '</s>',
  '<eos>',
  '<|im_end|>',
  '<|endoftext|>',
  '<|end_of_text|>',
  '<|eot_id|>',
  '<|eom_id|>',
  '<|end|>',
  '<|return|>',
  '<|call|>',
  '<end_of_turn>',
  '<end_of_utterance>',
  '<｜end▁of▁sentence｜>',
  '<EOT>',
  '_<EOT>',
  '[EOT]',
  '[EOS]',
  '<|fim_pad|>',
  '<fim-pad>',
  '<fim_pad>',
  '<PAD>',
  '[PAD]',
  '<|fim_repo|>',
  '<|repo_name|>',
  '<fim-repo>',
  '<REPO>',
  '<reponame>',
  '<|file_sep|>',
];
