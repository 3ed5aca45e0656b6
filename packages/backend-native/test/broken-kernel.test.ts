import { createNativeBackend } from '@filigree/backend-native';
import {
  createReferenceBackend,
  defineOp,
  softcapOp,
  type AnyOp,
  type HostTensor,
  type TensorMeta,
} from '@filigree/core-tensor';
import { expectAgreement } from '@filigree/testing';
import { afterAll, describe, expect, it } from 'vitest';

describe('the conformance check', () => {
  const backend = createNativeBackend({ fallback: 'error' });
  const reference = createReferenceBackend();
  afterAll(() => {
    backend.dispose();
  });

  /** An op whose native kernel is that of softcap, and whose definition is another: to the check, a broken kernel. */
  function withDefinition(define: (x: HostTensor, y: HostTensor, cap: number) => void): AnyOp {
    return defineOp({
      name: 'test/other',
      inputs: ['x'],
      outputs: ['y'],
      attributes: { cap: { type: 'number' } },
      infer: ({ x }: { x: TensorMeta }) => ({ y: x }),
      reference: ({ x, y }, { cap }) => {
        define(x, y, cap);
      },
      native: 'core_softcap',
      tolerance: softcapOp.tolerance ?? {},
      ...(softcapOp.cases ? { cases: softcapOp.cases } : {}),
    });
  }

  async function expectRed(op: AnyOp): Promise<void> {
    const failure: unknown = await expectAgreement(backend, op, reference).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(Error);
    expect(String((failure as Error).cause)).toMatch(/test\/other: y element \d+ is .*, expected/);
  }

  const softcap = (x: HostTensor, y: HostTensor, cap: number): void => {
    for (let index = 0; index < y.data.length; index++) y.data[index] = cap * Math.tanh(x.data[index] / cap);
  };

  it('is green for a kernel that does what the definition says', async () => {
    expect(await expectAgreement(backend, withDefinition(softcap), reference)).toBeGreaterThanOrEqual(20);
  });

  it('is red for a kernel that does something else', async () => {
    await expectRed(
      withDefinition((x, y, cap) => {
        for (let index = 0; index < y.data.length; index++) y.data[index] = Math.max(-cap, Math.min(cap, x.data[index]));
      }),
    );
  });

  it('is red for a kernel that is off by a thousandth', async () => {
    await expectRed(
      withDefinition((x, y, cap) => {
        softcap(x, y, cap);
        for (let index = 0; index < y.data.length; index++) y.data[index] *= 1.001;
      }),
    );
  });

  it('is red for a kernel that gets one element wrong', async () => {
    await expectRed(
      withDefinition((x, y, cap) => {
        softcap(x, y, cap);
        if (y.data.length > 0) y.data[y.data.length - 1] += cap;
      }),
    );
  });
});
