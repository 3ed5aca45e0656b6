//! Node-API addon: hands commands from JavaScript to the stream thread. No arithmetic in here.

#![deny(clippy::all)]

mod memory;
mod message;
mod slabs;
mod stream;
mod threads;
mod workers;

use filigree_kernels::{all_ops, layout_hash, Cpu};
use napi::bindgen_prelude::*;
use napi::Env;
use napi_derive::napi;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use stream::{Command, Failure, Queue, Reply, Stream};

/// Version of the message format between JavaScript and this addon.
#[napi]
pub const ABI: u32 = 1;

#[napi(object)]
pub struct OpEntry {
    pub name: String,
    /// FNV-1a of the signature, as hexadecimal.
    pub hash: String,
}

/// The op table, in the order of the indices that messages use.
#[napi]
pub fn op_table() -> Vec<OpEntry> {
    let entry = |op: &'static filigree_kernels::OpSpec| OpEntry {
        name: op.name.to_string(),
        hash: format!("{:08x}", layout_hash(op.signature)),
    };
    all_ops().into_iter().map(entry).collect()
}

/// CPU paths of this machine, lowest first.
#[napi]
pub fn cpu_paths() -> Vec<String> {
    Cpu::available().into_iter().map(|path| path.name().to_string()).collect()
}

/// Threads of a pool when nobody says: physical cores that this process may use, at most 16.
#[napi]
pub fn default_threads() -> u32 {
    threads::default_threads() as u32
}

fn to_error(failure: Failure) -> Error {
    Error::new(Status::GenericFailure, format!("{}|{}", failure.kind, failure.message))
}

/// One stream with its worker pool.
#[napi]
pub struct Engine {
    queue: Arc<Queue>,
    stopped: bool,
}

#[napi]
impl Engine {
    #[napi(constructor)]
    pub fn new(threads: u32, cpu: String) -> Result<Self> {
        let cpu = Cpu::by_name(&cpu).map_err(|error| Error::new(Status::InvalidArg, format!("OPTION|{error}")))?;
        let queue = Arc::new(Queue::new());
        let stream_queue = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("filigree-stream".into())
            .spawn(move || Stream::new(stream_queue, all_ops(), cpu, threads.clamp(1, 256) as usize).run())
            .map_err(|error| {
                Error::new(
                    Status::GenericFailure,
                    format!("BACKEND_UNAVAILABLE|cannot start a thread: {error}"),
                )
            })?;
        Ok(Self { queue, stopped: false })
    }

    fn push(&self, command: Command) {
        if !self.stopped {
            self.queue.push(command);
        }
    }

    #[napi]
    pub fn map_file(&self, id: u32, path: String, offset: f64, bytes: f64) {
        self.push(Command::Map {
            id,
            path,
            offset: offset as u64,
            bytes: bytes as usize,
        });
    }

    /// Drops the pages of a mapped buffer from this process.
    #[napi]
    pub fn discard(&self, id: u32) {
        self.push(Command::Discard { id });
    }

    #[napi]
    pub fn write(&self, id: u32, offset: f64, data: &[u8]) {
        self.push(Command::Write {
            id,
            offset: offset as usize,
            data: data.to_vec(),
        });
    }

    /// Queues ops, allocations and releases: records of `[length, kind, …]`.
    #[napi]
    pub fn submit(&self, message: &[f64]) {
        self.push(Command::Ops {
            message: message.to_vec(),
        });
    }

    /// Keeps records to be run again with other buffers in the slots: `[count, word…]` for each, the words that name its buffer.
    #[napi]
    pub fn define(&self, id: u32, message: &[f64], slots: &[f64]) {
        self.push(Command::Define {
            id,
            message: message.to_vec(),
            slots: slots.to_vec(),
        });
    }

    /// Runs kept records with `[id, bytes moved]` for each slot.
    #[napi]
    pub fn replay(&self, id: u32, buffers: &[f64]) {
        self.push(Command::Replay {
            id,
            buffers: buffers.to_vec(),
        });
    }

    /// Gives up kept records.
    #[napi]
    pub fn forget_program(&self, id: u32) {
        self.push(Command::Forget { id });
    }

    #[napi(ts_return_type = "Promise<Uint8Array>")]
    pub fn read<'env>(&self, env: &'env Env, id: u32, offset: f64, bytes: f64) -> Result<Object<'env>> {
        let (deferred, promise) = env.create_deferred::<Uint8Array, _>()?;
        let reply: Reply<Vec<u8>> = Box::new(move |result| match result {
            Ok(data) => deferred.resolve(move |_| Ok(Uint8Array::from(data))),
            Err(failure) => deferred.reject(to_error(failure)),
        });
        self.push(Command::Read {
            id,
            offset: offset as usize,
            bytes: bytes as usize,
            reply,
        });
        Ok(promise)
    }

    /// Resolves when everything queued has run; with `failures`, rejects with the first failure since the last such call.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn fence<'env>(&self, env: &'env Env, failures: bool) -> Result<Object<'env>> {
        let (deferred, promise) = env.create_deferred::<(), _>()?;
        let reply: Reply<()> = Box::new(move |result| match result {
            Ok(()) => deferred.resolve(|_| Ok(())),
            Err(failure) => deferred.reject(to_error(failure)),
        });
        self.push(Command::Fence { failures, reply });
        Ok(promise)
    }

    /// Turns profiling on or off and resolves with what was collected: pairs of op index and milliseconds.
    #[napi(ts_return_type = "Promise<Float64Array>")]
    pub fn profile<'env>(&self, env: &'env Env, on: bool) -> Result<Object<'env>> {
        let (deferred, promise) = env.create_deferred::<Float64Array, _>()?;
        let reply: Reply<Vec<f64>> = Box::new(move |result| match result {
            Ok(entries) => deferred.resolve(move |_| Ok(Float64Array::from(entries))),
            Err(failure) => deferred.reject(to_error(failure)),
        });
        self.push(Command::Profile { on, reply });
        Ok(promise)
    }

    /// Ops queued with this token and not yet started fail with ABORTED.
    #[napi]
    pub fn abort(&self, token: u32) {
        if let Ok(mut aborted) = self.queue.aborted.lock() {
            aborted.insert(token);
        }
    }

    /// Forgets an aborted token.
    #[napi]
    pub fn forget(&self, token: u32) {
        if let Ok(mut aborted) = self.queue.aborted.lock() {
            aborted.remove(&token);
        }
    }

    /// Commands queued and not yet done.
    #[napi]
    pub fn depth(&self) -> u32 {
        self.queue.depth.load(Ordering::Acquire) as u32
    }

    /// Bytes of queued writes.
    #[napi]
    pub fn queued_bytes(&self) -> f64 {
        self.queue.bytes.load(Ordering::Acquire) as f64
    }

    /// `[live, peak, pooled]` bytes as of the last finished command.
    #[napi]
    pub fn memory(&self) -> Vec<f64> {
        [&self.queue.live, &self.queue.peak, &self.queue.pooled]
            .map(|value| value.load(Ordering::Acquire) as f64)
            .to_vec()
    }

    /// Ends the stream after what is queued; buffers are freed there.
    #[napi]
    pub fn stop(&mut self) {
        self.push(Command::Stop);
        self.stopped = true;
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}
