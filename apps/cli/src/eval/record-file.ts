import { formatRecord, parseRecords, type EvaluationRecord, type RecordLog } from '@filigree/evaluation';
import { open, type FileHandle } from 'node:fs/promises';
import { decodeText } from '../read-text.js';

/** Records in a file of JSON lines: each is on the disk when `append` resolves, so that an interrupted run loses one context at most. */
export class RecordFile implements RecordLog {
  readonly #records: EvaluationRecord[];

  private constructor(
    readonly path: string,
    private readonly file: FileHandle,
    records: EvaluationRecord[],
  ) {
    this.#records = records;
  }

  /** Opens or makes the file; a line whose writing was interrupted is cut off. @throws OptionError when another line is no record. */
  static async open(path: string): Promise<RecordFile> {
    const file = await open(path, 'a+');
    try {
      const bytes = await file.readFile();
      // Only whole lines are decoded: a character may have been interrupted too.
      const end = bytes.lastIndexOf(0x0a) + 1;
      const { records } = parseRecords(decodeText(bytes.subarray(0, end), path));
      if (end < bytes.length) await file.truncate(end);
      return new RecordFile(path, file, records);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get records(): readonly EvaluationRecord[] {
    return this.#records;
  }

  async append(record: EvaluationRecord): Promise<void> {
    await this.file.appendFile(formatRecord(record));
    await this.file.datasync();
    this.#records.push(record);
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}
