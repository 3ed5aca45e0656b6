//! The stream thread: takes commands in order, owns every buffer, runs every op.

use crate::memory::{map_file, Block, Memory};
use crate::message::{Argument, OpCall, Program, Record};
use crate::workers::Workers;
use filigree_kernels::{Call, Cpu, OpSpec, TensorMut, TensorRef};
use rustc_hash::FxHashMap;
use std::collections::{HashSet, VecDeque};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Why a result cannot be read. The kind becomes the class of the JavaScript error.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: &'static str,
    pub message: String,
}

impl Failure {
    pub fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

/// Kind of work that an abort token dropped, and of what depends on it.
const ABORTED: &str = "ABORTED";

pub type Reply<T> = Box<dyn FnOnce(Result<T, Failure>) + Send>;

pub enum Command {
    Map {
        id: u32,
        path: String,
        offset: u64,
        bytes: usize,
    },
    Discard {
        id: u32,
    },
    Write {
        id: u32,
        offset: usize,
        data: Vec<u8>,
    },
    Read {
        id: u32,
        offset: usize,
        bytes: usize,
        reply: Reply<Vec<u8>>,
    },
    /// Records, as in [`crate::message`].
    Ops {
        message: Vec<f64>,
    },
    /// Keeps records to be run again and again; `slots` as in [`Program::new`].
    Define {
        id: u32,
        message: Vec<f64>,
        slots: Vec<f64>,
    },
    /// Runs a program with other buffers, `[id, offset]` for each slot.
    Replay {
        id: u32,
        buffers: Vec<f64>,
    },
    Forget {
        id: u32,
    },
    /// Replies when reached; `failures` also takes and reports the first failure since the last sync.
    Fence {
        failures: bool,
        reply: Reply<()>,
    },
    Profile {
        on: bool,
        reply: Reply<Vec<f64>>,
    },
    Stop,
}

/// What the JavaScript thread and the stream thread share.
pub struct Queue {
    commands: Mutex<VecDeque<Command>>,
    arrived: Condvar,
    pub depth: AtomicUsize,
    /// Bytes of queued writes.
    pub bytes: AtomicUsize,
    sleeping: AtomicBool,
    pub aborted: Mutex<HashSet<u32>>,
    pub live: AtomicUsize,
    pub peak: AtomicUsize,
    pub pooled: AtomicUsize,
}

impl Queue {
    pub fn new() -> Self {
        Self {
            commands: Mutex::new(VecDeque::new()),
            arrived: Condvar::new(),
            depth: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            sleeping: AtomicBool::new(false),
            aborted: Mutex::new(HashSet::new()),
            live: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            pooled: AtomicUsize::new(0),
        }
    }

    pub fn push(&self, command: Command) {
        if let Command::Write { data, .. } = &command {
            self.bytes.fetch_add(data.len(), Ordering::AcqRel);
        }
        let mut commands = self.commands.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        commands.push_back(command);
        self.depth.fetch_add(1, Ordering::AcqRel);
        drop(commands);
        if self.sleeping.load(Ordering::Acquire) {
            self.arrived.notify_one();
        }
    }

    fn pop(&self) -> Command {
        let start = Instant::now();
        loop {
            if self.depth.load(Ordering::Acquire) > 0 {
                if let Some(command) = self
                    .commands
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .pop_front()
                {
                    return command;
                }
            }
            if start.elapsed() > Duration::from_micros(20) {
                break;
            }
            std::hint::spin_loop();
        }
        let mut commands = self.commands.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.sleeping.store(true, Ordering::Release);
        loop {
            if let Some(command) = commands.pop_front() {
                self.sleeping.store(false, Ordering::Release);
                return command;
            }
            // The timeout covers a push between the check of `sleeping` and this wait.
            let (guard, _) = self
                .arrived
                .wait_timeout(commands, Duration::from_millis(50))
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            commands = guard;
        }
    }
}

fn malformed() -> Failure {
    Failure::new("EXECUTION", "the op message is malformed")
}

struct Buffer {
    block: Block,
    bytes: usize,
    poison: Option<Arc<Failure>>,
}

pub struct Stream {
    pub queue: Arc<Queue>,
    pub ops: Vec<&'static OpSpec>,
    pub cpu: Cpu,
    workers: Workers,
    memory: Memory,
    buffers: FxHashMap<u32, Buffer>,
    programs: FxHashMap<u32, Program>,
    first_failure: Option<Arc<Failure>>,
    profile: Option<Vec<f64>>,
}

impl Stream {
    pub fn new(queue: Arc<Queue>, ops: Vec<&'static OpSpec>, cpu: Cpu, threads: usize) -> Self {
        Self {
            queue,
            ops,
            cpu,
            workers: Workers::new(threads),
            memory: Memory::default(),
            buffers: FxHashMap::default(),
            programs: FxHashMap::default(),
            first_failure: None,
            profile: None,
        }
    }

    pub fn run(mut self) {
        loop {
            let command = self.queue.pop();
            let stop = matches!(command, Command::Stop);
            self.step(command);
            self.queue.live.store(self.memory.live, Ordering::Release);
            self.queue.peak.store(self.memory.peak, Ordering::Release);
            self.queue.pooled.store(self.memory.pooled(), Ordering::Release);
            self.queue.depth.fetch_sub(1, Ordering::AcqRel);
            if stop {
                return;
            }
        }
    }

    fn step(&mut self, command: Command) {
        match command {
            Command::Map { id, path, offset, bytes } => {
                let block = map_file(&path, offset, bytes).map_err(|message| Failure::new("EXECUTION", message));
                self.memory.live += bytes;
                self.memory.peak = self.memory.peak.max(self.memory.live);
                self.insert(id, bytes, block);
            }
            Command::Discard { id } => {
                if let Some(buffer) = self.buffers.get(&id) {
                    buffer.block.discard();
                }
            }
            Command::Write { id, offset, data } => {
                self.write(id, offset, &data);
                self.queue.bytes.fetch_sub(data.len(), Ordering::AcqRel);
            }
            Command::Read {
                id,
                offset,
                bytes,
                reply,
            } => reply(self.read(id, offset, bytes)),
            Command::Ops { message } => self.run_ops(&message),
            Command::Define { id, message, slots } => match Program::new(&message, &slots) {
                Some(program) => {
                    self.programs.insert(id, program);
                }
                None => {
                    self.fail(malformed());
                }
            },
            Command::Replay { id, buffers } => self.replay(id, &buffers),
            Command::Forget { id } => {
                self.programs.remove(&id);
            }
            Command::Fence { failures, reply } => {
                let failure = if failures { self.first_failure.take() } else { None };
                reply(failure.map_or(Ok(()), |failure| Err((*failure).clone())));
            }
            Command::Profile { on, reply } => {
                let entries = self.profile.take().unwrap_or_default();
                self.profile = on.then(Vec::new);
                reply(Ok(entries));
            }
            Command::Stop => {}
        }
    }

    fn allocate(&mut self, id: u32, bytes: usize) {
        let block = self
            .memory
            .take(bytes)
            .map_err(|message| Failure::new("OUT_OF_MEMORY", message));
        self.insert(id, bytes, block);
    }

    fn release(&mut self, id: u32) {
        if let Some(buffer) = self.buffers.remove(&id) {
            self.memory.give_back(buffer.block, buffer.bytes);
        }
    }

    fn insert(&mut self, id: u32, bytes: usize, block: Result<Block, Failure>) {
        let (block, poison) = match block {
            Ok(block) => (block, None),
            Err(failure) => (Block::Empty, Some(self.fail(failure))),
        };
        self.buffers.insert(id, Buffer { block, bytes, poison });
    }

    /// Remembers the first failure for the next sync. Work that was dropped on request is none.
    fn fail(&mut self, failure: Failure) -> Arc<Failure> {
        let failure = Arc::new(failure);
        if failure.kind != ABORTED {
            self.first_failure.get_or_insert_with(|| Arc::clone(&failure));
        }
        failure
    }

    fn write(&mut self, id: u32, offset: usize, data: &[u8]) {
        let Some(buffer) = self.buffers.get_mut(&id) else { return };
        let fits = offset.checked_add(data.len()).is_some_and(|end| end <= buffer.bytes);
        if buffer.poison.is_some() || !fits || !buffer.block.writable() {
            return;
        }
        // SAFETY: in bounds by the check above; the stream thread owns the block.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), buffer.block.pointer().add(offset), data.len()) };
    }

    fn read(&self, id: u32, offset: usize, bytes: usize) -> Result<Vec<u8>, Failure> {
        let buffer = self
            .buffers
            .get(&id)
            .ok_or_else(|| Failure::new("DISPOSED", "read: the buffer was released"))?;
        if let Some(poison) = &buffer.poison {
            return Err((**poison).clone());
        }
        if offset.checked_add(bytes).is_none_or(|end| end > buffer.bytes) {
            return Err(Failure::new("SHAPE", "read: the range is outside of the buffer"));
        }
        // SAFETY: in bounds by the check above; the block lives as long as the buffer.
        Ok(unsafe { std::slice::from_raw_parts(buffer.block.pointer().add(offset), bytes) }.to_vec())
    }

    fn run_ops(&mut self, message: &[f64]) {
        for record in Record::read_all(message) {
            match record {
                Some((record, _)) => self.run_record(&record),
                None => {
                    self.fail(malformed());
                    return;
                }
            }
        }
    }

    fn replay(&mut self, id: u32, buffers: &[f64]) {
        // Taken out while it runs, so that running can borrow everything else.
        let Some(mut program) = self.programs.remove(&id) else {
            self.fail(malformed());
            return;
        };
        if program.bind(buffers) {
            for record in &program.records {
                self.run_record(record);
            }
        } else {
            self.fail(malformed());
        }
        self.programs.insert(id, program);
    }

    fn run_record(&mut self, record: &Record) {
        match record {
            Record::Op(call) => self.run_op(call),
            Record::Allocate { id, bytes } => self.allocate(*id, *bytes),
            Record::Release { id } => self.release(*id),
        }
    }

    fn run_op(&mut self, call: &OpCall) {
        let started = self.profile.is_some().then(Instant::now);
        let result = match self.ops.get(call.op) {
            Some(spec) => self.execute(spec, call),
            None => Err(Failure::new("EXECUTION", "the op is not in the table")),
        };
        if let (Some(profile), Some(started)) = (&mut self.profile, started) {
            profile.extend([call.op as f64, started.elapsed().as_secs_f64() * 1e3]);
        }
        if let Err(failure) = result {
            let failure = self.fail(failure);
            let mutated = call.mutated.iter().filter_map(|&index| call.inputs[index].as_ref());
            for tensor in call.outputs.iter().chain(mutated) {
                if let Some(buffer) = self.buffers.get_mut(&tensor.id) {
                    buffer.poison = Some(Arc::clone(&failure));
                }
            }
        }
    }

    fn execute(&self, spec: &OpSpec, parsed: &OpCall) -> Result<(), Failure> {
        if parsed.token != 0 && self.queue.aborted.lock().is_ok_and(|aborted| aborted.contains(&parsed.token)) {
            return Err(Failure::new(ABORTED, "The operation was aborted"));
        }
        for tensor in parsed.inputs.iter().flatten().chain(&parsed.outputs) {
            if let Some(poison) = self.buffers.get(&tensor.id).and_then(|buffer| buffer.poison.as_ref()) {
                return Err((**poison).clone());
            }
        }
        let describe = || {
            let shapes: Vec<_> = parsed
                .inputs
                .iter()
                .map(|t| t.as_ref().map_or("none".into(), |t| format!("{:?}", t.shape)))
                .collect();
            format!("{} on {}", spec.name, shapes.join(", "))
        };
        let written: Vec<&Argument> = parsed
            .outputs
            .iter()
            .chain(parsed.mutated.iter().filter_map(|&index| parsed.inputs[index].as_ref()))
            .collect();
        for (position, target) in written.iter().enumerate() {
            let others = parsed
                .inputs
                .iter()
                .enumerate()
                .filter(|(index, _)| !parsed.mutated.contains(index));
            let inputs = others.filter_map(|(_, input)| input.as_ref());
            if inputs
                .chain(written[position + 1..].iter().copied())
                .any(|other| target.overlaps(other))
            {
                return Err(Failure::new(
                    "EXECUTION",
                    format!("{}: an argument that is written overlaps another", describe()),
                ));
            }
        }
        let mut inputs = Vec::with_capacity(parsed.inputs.len());
        for (index, tensor) in parsed.inputs.iter().enumerate() {
            inputs.push(match tensor {
                Some(tensor) if !parsed.mutated.contains(&index) => {
                    let (pointer, length) = self.range(tensor)?;
                    // SAFETY: in bounds by `range`; nothing that is written overlaps it, by the check above.
                    let bytes = unsafe { std::slice::from_raw_parts(pointer, length) };
                    Some(TensorRef {
                        dtype: tensor.dtype,
                        shape: &tensor.shape,
                        bytes,
                    })
                }
                _ => None,
            });
        }
        let mut outputs = Vec::with_capacity(written.len());
        for (position, tensor) in written.into_iter().enumerate() {
            let Some(buffer) = self.buffers.get(&tensor.id).filter(|buffer| buffer.block.writable()) else {
                return Err(Failure::new(
                    "EXECUTION",
                    format!("{}: a mapped file cannot be written", describe()),
                ));
            };
            // Results are written whole; what is written in place may fill slowly.
            if position < parsed.outputs.len() {
                buffer.block.fill_soon();
            }
            let (pointer, length) = self.range(tensor)?;
            // SAFETY: in bounds by `range`; exclusive by the overlap check; the stream thread owns the block.
            let bytes = unsafe { std::slice::from_raw_parts_mut(pointer, length) };
            outputs.push(TensorMut {
                dtype: tensor.dtype,
                shape: &tensor.shape,
                bytes,
            });
        }
        let mut call = Call {
            inputs: &inputs,
            outputs: &mut outputs,
            attrs: &parsed.attributes,
            pool: &self.workers,
            cpu: self.cpu,
        };
        match catch_unwind(AssertUnwindSafe(|| spec.invoke(&mut call))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::new("EXECUTION", format!("{}: {error}", describe()))),
            Err(_) => Err(Failure::new("EXECUTION", format!("{}: the kernel panicked", describe()))),
        }
    }

    fn range(&self, tensor: &Argument) -> Result<(*mut u8, usize), Failure> {
        let buffer = self
            .buffers
            .get(&tensor.id)
            .ok_or_else(|| Failure::new("DISPOSED", "an argument was released"))?;
        let end = tensor.offset.checked_add(tensor.bytes).filter(|&end| end <= buffer.bytes);
        if end.is_none() {
            return Err(Failure::new("SHAPE", "an argument reaches beyond its buffer"));
        }
        if tensor.bytes == 0 {
            return Ok((Block::Empty.pointer(), 0));
        }
        // SAFETY: in bounds by the check above.
        Ok((unsafe { buffer.block.pointer().add(tensor.offset) }, tensor.bytes))
    }
}
