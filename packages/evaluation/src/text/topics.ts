/** A kind of fact: the sentence up to its value, and the question for it. */
export interface Topic {
  readonly statement: (key: string) => string;
  readonly question: (key: string) => string;
}

/**
 * Facts that have little more than their number in common. Ten that differ in the key alone compete so much that a small model confuses them in
 * half of all cases within a thousand tokens; facts of these kinds it finds nearly as well as a single one, so that one prefill can answer ten questions.
 */
export const topics: readonly Topic[] = /* @__PURE__ */ Object.freeze([
  {
    statement: (key: string) => `The special magic number for ${key} is`,
    question: (key: string) => `What is the special magic number for ${key}?`,
  },
  {
    statement: (key: string) => `The bank vault in the town of ${key} opens with code`,
    question: (key: string) => `Which code opens the bank vault in the town of ${key}?`,
  },
  {
    statement: (key: string) => `The train to ${key} station has ticket number`,
    question: (key: string) => `Which ticket number does the train to ${key} station have?`,
  },
  {
    statement: (key: string) => `To call doctor ${key} by telephone, dial`,
    question: (key: string) => `What does one dial to call doctor ${key} by telephone?`,
  },
  {
    statement: (key: string) => `The stolen car of agent ${key} has license plate`,
    question: (key: string) => `Which license plate does the stolen car of agent ${key} have?`,
  },
  {
    statement: (key: string) => `The parcel from the ${key} company has tracking code`,
    question: (key: string) => `Which tracking code does the parcel from the ${key} company have?`,
  },
  {
    statement: (key: string) => `The radio station ${key} transmits on frequency`,
    question: (key: string) => `On which frequency does the radio station ${key} transmit?`,
  },
  {
    statement: (key: string) => `The population of planet ${key} is`,
    question: (key: string) => `What is the population of planet ${key}?`,
  },
  {
    statement: (key: string) => `The invoice for the king of ${key} amounts to dollars`,
    question: (key: string) => `To how many dollars does the invoice for the king of ${key} amount?`,
  },
  {
    statement: (key: string) => `The library book about ${key} has shelf mark`,
    question: (key: string) => `Which shelf mark does the library book about ${key} have?`,
  },
]);
