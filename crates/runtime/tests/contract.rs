//! The runtime's contract suite, run on this machine's runtime.

#[cfg(test)]
mod tests {
    use mayfly_core::ports::runtime::Runtime as _;
    use mayfly_runtime::local::{LocalRuntime, Options};
    use mayfly_testkit::contract::processes::processes_contract;
    use mayfly_testkit::contract::runtime::{runtime_contract, spec};
    use mayfly_testkit::contract::volumes::volumes_contract;

    async fn open(folder: &tempfile::TempDir) -> LocalRuntime {
        let mut options = Options::new(folder.path());
        options.pool_bytes = Some(4 << 30);
        options.namespaces = 2;
        LocalRuntime::open(options).await.expect("this host offers every layer")
    }

    #[tokio::test]
    async fn the_local_runtime_keeps_the_contract() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = open(&folder).await;
        runtime_contract(&runtime).await;
        // The folder could not be deleted by an ordinary user otherwise.
        runtime.clear_layers().await.expect("nothing runs");
    }

    #[tokio::test]
    async fn processes_that_stay_keep_the_contract() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = open(&folder).await;
        let spec = spec(&runtime).await;
        runtime.create(&spec).await.expect("a sandbox");
        let suite = processes_contract(&runtime, spec.id);
        // Whatever happens, nothing is left behind.
        let kept = Catch(Box::pin(suite)).await;
        runtime.destroy(spec.id).await.expect("destroy");
        kept.unwrap_or_else(|broken| std::panic::resume_unwind(broken));
        // The folder could not be deleted by an ordinary user otherwise.
        runtime.clear_layers().await.expect("nothing runs");
    }

    #[tokio::test]
    async fn volumes_keep_the_contract() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP volumes: an ordinary user has no storage pool");
            return;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = open(&folder).await;
        volumes_contract(&runtime).await;
    }

    /// Gives a panic of a future as its answer.
    struct Catch<F>(std::pin::Pin<Box<F>>);

    impl<F: Future> Future for Catch<F> {
        type Output = std::thread::Result<F::Output>;

        fn poll(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Self::Output> {
            let inner = std::panic::AssertUnwindSafe(|| self.0.as_mut().poll(context));
            match std::panic::catch_unwind(inner) {
                Ok(std::task::Poll::Ready(output)) => std::task::Poll::Ready(Ok(output)),
                Ok(std::task::Poll::Pending) => std::task::Poll::Pending,
                Err(panic) => std::task::Poll::Ready(Err(panic)),
            }
        }
    }
}
