//! One Admin service made of those of several replicas. Each replica knows the proxies that are connected to it, so
//! what is asked about proxies is asked everywhere.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures_util::future::join_all;
use futures_util::stream::select_all;
use mesh_api::wire::admin::admin_client::AdminClient;
use mesh_api::wire::admin::*;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::kubernetes::Cluster;

type Client = AdminClient<Channel>;
type Answer<T> = Result<Response<T>, Status>;

/// A connected Admin service.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    /// At least one.
    replicas: Vec<Client>,
    /// Where the documents are, when they are not the control plane's own.
    cluster: Option<Cluster>,
}

impl Admin {
    /// The service that these replicas make together.
    pub(crate) fn of(replicas: Vec<Client>) -> Self {
        Self {
            replicas,
            cluster: None,
        }
    }

    /// The same, of a mesh whose documents are objects of a Kubernetes cluster.
    pub(crate) fn on(self, cluster: Cluster) -> Self {
        Self {
            cluster: Some(cluster),
            ..self
        }
    }

    /// The Kubernetes cluster whose objects the documents are.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// What the control plane says of itself.
    pub(crate) async fn get_status(
        &mut self,
        request: GetStatusRequest,
    ) -> Answer<mesh_api::wire::admin::Status> {
        let answers = self
            .all(|mut client| async move { client.get_status(request).await })
            .await?;
        one(status(answers))
    }

    /// All proxies.
    pub(crate) async fn list_proxies(&mut self, request: ListProxiesRequest) -> Answer<ProxyList> {
        let answers = self
            .all(|mut client| async move { client.list_proxies(request).await })
            .await?;
        one(Some(proxies(&answers)))
    }

    /// All proxies now, and again whenever one changes.
    pub(crate) async fn watch_proxies(
        &mut self,
        request: ListProxiesRequest,
    ) -> Answer<Pin<Box<dyn Stream<Item = Result<ProxyList, Status>> + Send>>> {
        let answers = self
            .all(|mut client| async move { client.watch_proxies(request).await })
            .await?;
        let mut lists: Vec<Option<ProxyList>> = answers.iter().map(|_| None).collect();
        let streams = answers.into_iter().enumerate();
        let streams = streams.map(|(index, stream)| stream.map(move |list| (index, list)));
        let together = select_all(streams).filter_map(move |(index, list)| {
            match list {
                Ok(list) => lists[index] = Some(list),
                Err(status) if lists.len() == 1 => return Some(Err(status)),
                // A replica that goes takes its proxies to the others.
                Err(_) => lists[index] = Some(ProxyList::default()),
            }
            let known: Vec<ProxyList> = lists.iter().flatten().cloned().collect();
            (known.len() == lists.len()).then(|| Ok(proxies(&known)))
        });
        Ok(Response::new(Box::pin(together)))
    }

    /// What all proxies saw.
    pub(crate) async fn get_traffic(&mut self, request: GetTrafficRequest) -> Answer<Traffic> {
        let answers = self
            .all(|mut client| async move { client.get_traffic(request).await })
            .await?;
        let seconds = answers.iter().map(|answer| answer.seconds).fold(0.0, f64::max);
        let paths = answers.into_iter().flat_map(|answer| answer.paths).collect();
        one(Some(Traffic { seconds, paths }))
    }

    /// The documents in force, which are the same everywhere.
    pub(crate) async fn list_documents(&mut self, request: ListDocumentsRequest) -> Answer<DocumentList> {
        let ask = |mut client: Client| {
            let request = request.clone();
            async move { client.list_documents(request).await }
        };
        let answers = self.all(ask).await?;
        one(answers.into_iter().next())
    }

    /// The routes in force, which are the same everywhere.
    pub(crate) async fn list_routes(&mut self, request: ListRoutesRequest) -> Answer<RouteList> {
        let answers = self
            .all(|mut client| async move { client.list_routes(request).await })
            .await?;
        one(answers.into_iter().next())
    }

    /// Applies documents.
    pub(crate) async fn apply(&mut self, request: ApplyRequest) -> Answer<ApplyResponse> {
        self.first()?.apply(request).await
    }

    /// Deletes a document.
    pub(crate) async fn delete(&mut self, request: DeleteRequest) -> Answer<DeleteResponse> {
        self.first()?.delete(request).await
    }

    /// Changes weights.
    pub(crate) async fn set_split(&mut self, request: SetSplitRequest) -> Answer<SplitChange> {
        self.first()?.set_split(request).await
    }

    /// Takes the last change of weights back.
    pub(crate) async fn undo_split(&mut self, request: UndoSplitRequest) -> Answer<SplitChange> {
        self.first()?.undo_split(request).await
    }

    /// Makes a join token.
    pub(crate) async fn create_join_token(&mut self, request: CreateJoinTokenRequest) -> Answer<JoinToken> {
        self.first()?.create_join_token(request).await
    }

    /// Begins to replace the root of trust.
    pub(crate) async fn start_root_rotation(
        &mut self,
        request: StartRootRotationRequest,
    ) -> Answer<RootRotation> {
        self.first()?.start_root_rotation(request).await
    }

    /// How far the replacement of the root is, with the proxies of all replicas.
    pub(crate) async fn get_root_rotation(
        &mut self,
        request: GetRootRotationRequest,
    ) -> Answer<RootRotation> {
        let ask = |mut client: Client| async move { client.get_root_rotation(request).await };
        let answers = self.all(ask).await?;
        one(answers.into_iter().reduce(|mut all, one| {
            all.proxies += one.proxies;
            all.trusting += one.trusting;
            all.signed += one.signed;
            // Who is behind holds the others up.
            if all.phase == "steady" {
                (all.phase, all.roots) = (one.phase, one.roots);
            }
            all
        }))
    }

    fn first(&mut self) -> Result<&mut Client, Status> {
        self.replicas.first_mut().ok_or_else(nobody)
    }

    /// The answers of the replicas that answer; an error when none does.
    async fn all<T, F>(&self, ask: impl Fn(Client) -> F) -> Result<Vec<T>, Status>
    where
        F: Future<Output = Answer<T>>,
    {
        let answers = join_all(self.replicas.iter().map(|client| ask(client.clone()))).await;
        let (mut good, mut bad) = (Vec::new(), None);
        for answer in answers {
            match answer {
                Ok(answer) => good.push(answer.into_inner()),
                Err(status) => bad = Some(status),
            }
        }
        if good.is_empty() {
            return Err(bad.unwrap_or_else(nobody));
        }
        Ok(good)
    }
}

fn nobody() -> Status {
    Status::unavailable("no replica answers")
}

fn one<T>(answer: Option<T>) -> Answer<T> {
    answer.map(Response::new).ok_or_else(nobody)
}

/// The eldest replica's status, with the version of the one that is furthest, and the problems of all.
fn status(mut answers: Vec<mesh_api::wire::admin::Status>) -> Option<mesh_api::wire::admin::Status> {
    answers.sort_by_key(|status| status.started);
    let mut answers = answers.into_iter();
    let mut all = answers.next()?;
    for status in answers {
        all.version = all.version.max(status.version);
        for problem in status.problems {
            if !all.problems.contains(&problem) {
                all.problems.push(problem);
            }
        }
    }
    Some(all)
}

/// Every proxy once: as the replica says that it is connected to, or else the one that heard of it last.
fn proxies(lists: &[ProxyList]) -> ProxyList {
    let mut proxies: BTreeMap<(&str, &str), &Proxy> = BTreeMap::new();
    let age = |proxy: &Proxy| (proxy.connected, proxy.connected_since, proxy.acked);
    for proxy in lists.iter().flat_map(|list| &list.proxies) {
        let known = proxies.entry((&proxy.workload, &proxy.proxy_id)).or_insert(proxy);
        if age(proxy) > age(known) {
            *known = proxy;
        }
    }
    // A workload's earlier proxies have gone when it has one that is connected.
    let connected: Vec<&str> = proxies
        .values()
        .filter(|proxy| proxy.connected)
        .map(|proxy| proxy.workload.as_str())
        .collect();
    let current = |proxy: &&Proxy| proxy.connected || !connected.contains(&proxy.workload.as_str());
    ProxyList {
        proxies: proxies.into_values().filter(current).cloned().collect(),
        version: lists.iter().map(|list| list.version).max().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::testing::proxy;

    #[test]
    fn a_proxy_counts_where_it_is_connected() {
        let mut moved = proxy("ml/a", 3);
        moved.connected = false;
        let mut gone = proxy("ml/c", 2);
        (gone.connected, gone.connected_since) = (false, 100);
        let mut earlier = proxy("ml/c", 1);
        (earlier.connected, earlier.connected_since) = (false, 50);
        let list = proxies(&[
            ProxyList {
                proxies: vec![moved, proxy("ml/b", 7), gone],
                version: 7,
            },
            ProxyList {
                proxies: vec![proxy("ml/a", 8), earlier],
                version: 8,
            },
        ]);
        let seen: Vec<_> = list
            .proxies
            .iter()
            .map(|it| (it.workload.as_str(), it.version, it.connected))
            .collect();
        assert_eq!(seen, [("ml/a", 8, true), ("ml/b", 7, true), ("ml/c", 2, false)]);
        assert_eq!(list.version, 8);
    }
}
