import { OptionError, Random } from '@filigree/core-tensor';
import { BoundedSet, gdsf, lec, lfu, lru, type CachePolicy, type CacheUse } from '@filigree/kv-cache';
import { fullTier } from '@filigree/testing';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const policies: readonly (readonly [string, () => CachePolicy])[] = [
  ['lru', lru],
  ['lfu', lfu],
  ['gdsf', gdsf],
  ['lec', lec],
  ['lec of a moving average', () => lec({ estimator: 'ema', weight: 0.01 })],
];

/** Ids of a Zipf distribution over `items`, the most popular first. */
function zipf(random: Random, items: number): () => number {
  const weights = Array.from({ length: items }, (_, rank) => 1 / (rank + 1));
  const total = weights.reduce((sum, weight) => sum + weight);
  return () => {
    let left = random.nextFloat() * total;
    const found = weights.findIndex((weight) => (left -= weight) < 0);
    return found < 0 ? items - 1 : found;
  };
}

/** Every third item is a hundred times as dear as the others. */
const twoClasses = (id: number): CacheUse => ({ cost: id % 3 === 0 ? 100 : 1, bytes: 1 });

/** Cost of all misses of a trace. */
function totalCost(policy: CachePolicy, trace: readonly number[], capacity: number): number {
  const held = new BoundedSet(policy, capacity);
  return trace.reduce((sum, id) => sum + (held.request(id, twoClasses(id)).hit ? 0 : twoClasses(id).cost), 0);
}

describe('policies on a Zipf trace with two classes of cost', () => {
  const draw = zipf(new Random(7), 500);
  const trace = Array.from({ length: 20_000 }, draw);
  const cost = Object.fromEntries(policies.map(([name, make]) => [name, totalCost(make(), trace, 50)]));

  it('least expected cost costs less than frequency, and frequency less than recency', () => {
    expect(cost.lec).toBeLessThanOrEqual(cost.lfu);
    expect(cost.lfu).toBeLessThanOrEqual(cost.lru);
    expect(cost['lec of a moving average']).toBeLessThanOrEqual(cost.lfu);
    expect(cost.gdsf).toBeLessThanOrEqual(cost.lru);
  });

  it('costs what it did', () => {
    expect(cost).toMatchInlineSnapshot(`
      {
        "gdsf": 157055,
        "lec": 139074,
        "lec of a moving average": 185373,
        "lfu": 231990,
        "lru": 315682,
      }
    `);
  });
});

describe.each(policies)('%s', (_, make) => {
  it('never exceeds the capacity and never turns its clock back, in 100,000 random operations', () => {
    const random = new Random(11);
    const policy = make();
    const held = new BoundedSet(policy, 300);
    const sizes = new Map<number, number>();
    let clock = 0;
    for (let step = 0; step < 100_000; step++) {
      const id = random.nextWord() % 200;
      const roll = random.nextWord() % 16;
      if (roll === 0) sizes.delete(id);
      if (roll === 0) held.delete(id);
      else if (roll === 1) policy.pin(id);
      else if (roll < 4) policy.unpin(id);
      else {
        const bytes = 1 + (random.nextWord() % 40);
        const { held: now, evicted } = held.request(id, { cost: random.nextWord() % 9, bytes });
        sizes.delete(id);
        for (const other of evicted) sizes.delete(other);
        if (now) sizes.set(id, bytes);
      }
      if (held.bytes > 300 || policy.clock < clock) expect.fail(`step ${step}: ${held.bytes} bytes, clock ${policy.clock}`);
      clock = policy.clock;
    }
    expect(held.bytes).toBe([...sizes.values()].reduce((sum, bytes) => sum + bytes, 0));
    expect(policy.size).toBe(sizes.size);
  });

  it('gives the same victims for the same requests', () => {
    const run = (): (number | undefined)[] => {
      const random = new Random(3);
      const held = new BoundedSet(make(), 20);
      return Array.from({ length: 500 }, () => {
        const id = random.nextWord() % 40;
        return held.request(id, { cost: 1 + (id % 4), bytes: 1 + (id % 3) }).evicted.at(0);
      });
    };
    expect(run()).toEqual(run());
  });

  it('among equals takes the one that was touched longest ago', () => {
    const policy = make();
    const use = { cost: 1, bytes: 1 };
    for (const id of [3, 1, 2]) policy.add(id, use);
    expect(policy.victim()).toBe(3);
    policy.pin(3);
    expect(policy.victim()).toBe(1);
    policy.remove(1);
    policy.unpin(3);
    expect(policy.victim()).toBe(3);
    policy.remove(3);
    policy.remove(2);
    expect([policy.victim(), policy.size]).toEqual([undefined, 0]);
  });

  it('refuses costs and sizes that are none', () => {
    const policy = make();
    for (const use of [
      { cost: NaN, bytes: 1 },
      { cost: -1, bytes: 1 },
      { cost: 1, bytes: 0 },
      { cost: Infinity, bytes: 1 },
    ])
      for (const call of ['touch', 'admit', 'add'] as const) expect(() => policy[call](1, use)).toThrow(OptionError);
  });
});

describe('the victim', () => {
  const requests = fc.array(
    fc.record({ id: fc.nat(6), cost: fc.integer({ min: 1, max: 4 }), bytes: fc.integer({ min: 1, max: 3 }) }),
  );

  /** What a plain list says, ranked anew at every step. */
  function expectVictims(make: () => CachePolicy, rank: (count: number, use: CacheUse, clock: number) => number): void {
    fc.assert(
      fc.property(requests, (steps) => {
        const policy = make();
        const items = new Map<number, { rank: number; count: number; at: number }>();
        const counts = new Map<number, number>();
        let clock = 0;
        for (const [at, { id, ...use }] of steps.entries()) {
          counts.set(id, (counts.get(id) ?? 0) + 1);
          const count = make().name === 'gdsf' ? (items.get(id)?.count ?? 0) + 1 : (counts.get(id) ?? 0);
          policy.touch(id, use);
          if (!policy.has(id)) policy.add(id, use);
          items.set(id, { rank: rank(count, use, clock), count, at });
          const [[first, item]] = [...items].sort(([, a], [, b]) => a.rank - b.rank || a.at - b.at);
          expect(policy.victim()).toBe(first);
          if (items.size < 4) continue;
          clock = Math.max(clock, item.rank);
          policy.remove(first);
          items.delete(first);
        }
      }),
      { numRuns: fullTier ? 3000 : 300, seed: 5 },
    );
  }

  it('of lru was asked for longest ago', () => {
    expectVictims(lru, () => 0);
  });

  it('of lfu was asked for least often', () => {
    expectVictims(lfu, (count) => count);
  });

  it('of gdsf has the least clock + frequency · cost / bytes', () => {
    expectVictims(gdsf, (count, { cost, bytes }, clock) => clock + (count * cost) / bytes);
  });

  it('of lec has the least frequency · cost', () => {
    expectVictims(lec, (count, { cost }) => count * cost);
  });
});

describe('gdsf with equal costs and sizes', () => {
  const use = { cost: 2, bytes: 2 };

  it('orders by frequency', () => {
    const policy = gdsf();
    for (const id of [1, 1, 1, 2, 3, 3]) {
      if (policy.has(id)) policy.touch(id, use);
      else policy.add(id, use);
    }
    const order = [];
    for (let id = policy.victim(); id !== undefined; id = policy.victim()) {
      order.push(id);
      policy.remove(id);
    }
    expect(order).toEqual([2, 3, 1]);
  });

  it('lets what was popular once age away', () => {
    const policy = gdsf();
    policy.add(0, use);
    for (let hit = 0; hit < 5; hit++) policy.touch(0, use);
    let id = 1;
    for (; policy.has(0) && id < 50; id++) {
      policy.add(id, use);
      policy.remove(policy.victim() ?? -1);
    }
    expect(id).toBeLessThan(12);
  });
});

describe('lec', () => {
  it('leaves what it holds alone when many items are asked for once', () => {
    const held = new BoundedSet(lec(), 10);
    for (let round = 0; round < 3; round++) for (let id = 0; id < 10; id++) held.request(id, { cost: 1, bytes: 1 });
    for (let id = 100; id < 400; id++) expect(held.request(id, { cost: 1, bytes: 1 }).held).toBe(false);
    for (let id = 0; id < 10; id++) expect(held.has(id)).toBe(true);
  });

  it('of a moving average follows a change that counts do not see', () => {
    const run = (policy: CachePolicy): number => {
      const held = new BoundedSet(policy, 4);
      let hits = 0;
      for (let step = 0; step < 4000; step++) {
        const id = (step % 4) + (step < 2000 ? 0 : 10);
        if (held.request(id, { cost: 1, bytes: 1 }).hit) hits++;
      }
      return hits;
    };
    expect(run(lec({ estimator: 'ema', weight: 0.01 }))).toBeGreaterThan(3500);
    expect(run(lec())).toBeLessThan(3000);
  });

  it('refuses options that are none', () => {
    expect(() => lec({ estimator: 'ema', weight: 1 })).toThrow(OptionError);
    expect(() => lfu({ history: -1 })).toThrow(OptionError);
    expect(() => new BoundedSet(lru(), 0)).toThrow(OptionError);
  });
});
