//! An S3 server in this process: s3s-fs over a temporary folder.
//!
//! What s3s-fs leaves out, and what every real store does, is added: listings carry ETags, reads honour `If-Match`, and
//! a write with `If-Match` where nothing is there is refused as what cannot be found.
//! Requests must be signed with [`ACCESS_KEY`] and [`SECRET_KEY`].

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::Pin;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder as Connections;
use s3s::auth::SimpleAuth;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput,
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, ETagCondition,
    GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input,
    ListObjectsV2Output, PutObjectInput, PutObjectOutput, UploadPartInput, UploadPartOutput,
};
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The access key of every server.
pub const ACCESS_KEY: &str = "AKIAFORELINE";
/// The secret key of every server.
pub const SECRET_KEY: &str = "canary-secret";

/// A server with its objects, gone with the value.
#[derive(Debug)]
pub struct S3Server {
    root: TempDir,
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl S3Server {
    /// Starts a server that has these buckets.
    ///
    /// # Errors
    /// When there is no folder, port or thread for it.
    pub fn start(buckets: &[&str]) -> Result<Self> {
        let root = tempfile::tempdir().context("there is no folder for objects")?;
        for bucket in buckets {
            fs::create_dir(root.path().join(bucket))?;
        }
        let files = FileSystem::new(root.path())
            .map_err(|e| anyhow::anyhow!("s3s-fs does not start: {e:?}"))?;
        let mut service = S3ServiceBuilder::new(Store { files });
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("s3 server".to_owned()).spawn(move || {
            let serve = async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                while let Ok((socket, _)) = listener.accept().await {
                    let service = service.clone();
                    tokio::spawn(async move {
                        let connections = Connections::new(TokioExecutor::new());
                        connections.serve_connection(TokioIo::new(socket), service).await.ok();
                    });
                }
            };
            runtime.block_on(async {
                tokio::select! { () = serve => {}, _ = stopped => {} }
            });
            runtime.shutdown_background();
        })?;
        Ok(S3Server { root, port, stop: Some(stop), thread: Some(thread) })
    }

    /// The port of the loopback that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file that an object lies in.
    #[must_use]
    pub fn file(&self, bucket: &str, key: &str) -> PathBuf {
        self.root.path().join(bucket).join(key)
    }

    /// Puts an object there, whole at once, without a request.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put(&self, bucket: &str, key: &str, bytes: &[u8]) -> Result<()> {
        let file = self.file(bucket, key);
        fs::create_dir_all(file.parent().context("a key has a bucket")?)?;
        let temporary = tempfile::NamedTempFile::new_in(self.root.path())?;
        fs::write(temporary.path(), bytes)?;
        temporary.persist(file)?;
        Ok(())
    }

    /// The keys in a bucket, sorted.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn keys(&self, bucket: &str) -> Result<Vec<String>> {
        let root = self.root.path().join(bucket);
        let (mut keys, mut folders) = (Vec::new(), vec![root.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    keys.push(path.strip_prefix(&root)?.display().to_string());
                }
            }
        }
        keys.sort();
        Ok(keys)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// s3s-fs with what it leaves out.
#[derive(Debug)]
struct Store {
    files: FileSystem,
}

impl Store {
    /// What is known of an object.
    async fn head(&self, bucket: String, key: String) -> S3Result<HeadObjectOutput> {
        let head = S3Request {
            input: HeadObjectInput { bucket, key, ..HeadObjectInput::default() },
            method: Default::default(),
            uri: Default::default(),
            headers: Default::default(),
            extensions: Default::default(),
            credentials: None,
            region: None,
            service: None,
            trailing_headers: None,
        };
        Ok(self.files.head_object(head).await?.output)
    }
}

/// What a method of [`S3`] gives.
type Answer<'a, T> = Pin<Box<dyn Future<Output = S3Result<S3Response<T>>> + Send + 'a>>;

/// Methods that s3s-fs does well.
macro_rules! passed_on {
    ($($name:ident: $input:ty => $output:ty,)*) => {
        $(fn $name<'s, 'a>(&'s self, request: S3Request<$input>) -> Answer<'a, $output>
        where
            's: 'a,
            Self: 'a,
        {
            self.files.$name(request)
        })*
    };
}

impl S3 for Store {
    passed_on! {
        head_object: HeadObjectInput => HeadObjectOutput,
        delete_object: DeleteObjectInput => DeleteObjectOutput,
        delete_objects: DeleteObjectsInput => DeleteObjectsOutput,
        create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput,
        upload_part: UploadPartInput => UploadPartOutput,
        complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput,
        abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput,
    }

    fn get_object<'s, 'a>(
        &'s self,
        request: S3Request<GetObjectInput>,
    ) -> Answer<'a, GetObjectOutput>
    where
        's: 'a,
        Self: 'a,
    {
        Box::pin(async move {
            let wanted = request.input.if_match.clone();
            let got = self.files.get_object(request).await?;
            if let (Some(ETagCondition::ETag(wanted)), Some(is)) = (&wanted, &got.output.e_tag)
                && wanted != is
            {
                return Err(s3_error!(PreconditionFailed));
            }
            Ok(got)
        })
    }

    fn list_objects_v2<'s, 'a>(
        &'s self,
        request: S3Request<ListObjectsV2Input>,
    ) -> Answer<'a, ListObjectsV2Output>
    where
        's: 'a,
        Self: 'a,
    {
        Box::pin(async move {
            let bucket = request.input.bucket.clone();
            let mut listed = self.files.list_objects_v2(request).await?;
            for object in listed.output.contents.iter_mut().flatten() {
                let Some(key) = object.key.clone() else { continue };
                object.e_tag = self.head(bucket.clone(), key).await?.e_tag;
            }
            Ok(listed)
        })
    }

    fn put_object<'s, 'a>(
        &'s self,
        request: S3Request<PutObjectInput>,
    ) -> Answer<'a, PutObjectOutput>
    where
        's: 'a,
        Self: 'a,
    {
        Box::pin(async move {
            if request.input.if_match.is_some() {
                let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
                self.head(bucket, key).await?;
            }
            self.files.put_object(request).await
        })
    }
}
