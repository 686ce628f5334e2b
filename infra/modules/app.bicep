// The function app: Flex Consumption, the handler as a custom runtime, one
// identity for all it does, and Entra sign-in in front of it. No setting is a
// secret.

param planName string
param appName string
param location string
param tags object

param identityId string
param identityClientId string
param hostStorageName string
param packagesUrl string
param tablesName string

@description('The container for the anchors of the audit; empty for none.')
param anchorsUrl string
param serviceBusNamespace string
param insightsConnectionString string
param workspaceId string

@description('The subscriptions whose machines it looks after.')
param subscriptionIds array
param installation string

@description('The tenant whose users are believed.')
param tenantId string

@description('The application (client) id of the app registration.')
param clientId string

@description('More app settings, by name, of those in docs/settings.md.')
param extraSettings object

@allowed([512, 2048, 4096])
param instanceMemoryMB int
param maximumInstanceCount int
param alwaysReadyInstances int

@description('The subnet, delegated to Microsoft.App/environments, through which it calls out; empty for none.')
param subnetId string

@description('No public access: the page, the API and webhooks are reached by a private endpoint alone.')
param closed bool

var audiences = [
  clientId
  'api://${clientId}'
]

var settings = union(extraSettings, {
  AzureWebJobsStorage__accountName: hostStorageName
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identityClientId
  APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
  // Easy Auth proves itself to Entra by the identity, instead of a secret.
  OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID: identityClientId
  ServiceBus__fullyQualifiedNamespace: serviceBusNamespace
  ServiceBus__credential: 'managedidentity'
  ServiceBus__clientId: identityClientId
  Tables__endpoint: 'https://${tablesName}.table.${environment().suffixes.storage}'
  Tables__credential: 'managedidentity'
  Tables__clientId: identityClientId
  AZURE_SUBSCRIPTION_IDS: join(subscriptionIds, ',')
  PORTCULLIS_ANCHORS_URL: anchorsUrl // an empty setting is none
  PORTCULLIS_INSTALLATION: installation
  PORTCULLIS_TENANT_ID: tenantId
  PORTCULLIS_AUDIENCES: join(audiences, ',')
})

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: appName
  location: location
  tags: union(tags, {
    'azd-service-name': 'handler'
  })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    publicNetworkAccess: closed ? 'Disabled' : 'Enabled'
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      appSettings: [for setting in items(settings): {
        name: setting.key
        value: setting.value
      }]
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packagesUrl
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      runtime: {
        name: 'custom'
        version: '1.0'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: alwaysReadyInstances == 0 ? [] : [
          {
            name: 'http'
            instanceCount: alwaysReadyInstances
          }
        ]
      }
    }
  }
}

// Anonymous calls pass on to the handler, which checks every token itself. The
// token store hands it the signed-in user's ID token.
resource auth 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: app
  name: 'authsettingsV2'
  properties: {
    platform: {
      enabled: true
      runtimeVersion: '~1'
    }
    globalValidation: {
      requireAuthentication: false
      unauthenticatedClientAction: 'AllowAnonymous'
    }
    httpSettings: {
      requireHttps: true
    }
    identityProviders: {
      azureActiveDirectory: {
        enabled: true
        registration: {
          openIdIssuer: '${environment().authentication.loginEndpoint}${tenantId}/v2.0'
          clientId: clientId
          clientSecretSettingName: 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID'
        }
        login: {
          // offline_access lets the page renew a session.
          loginParameters: [
            'scope=openid profile offline_access'
          ]
        }
        validation: {
          allowedAudiences: audiences
        }
      }
    }
    login: {
      tokenStore: {
        enabled: true
      }
    }
  }
}

// Publishing by a password is a key by another name.
resource noFtpPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'ftp'
  properties: {
    allow: false
  }
}

resource noScmPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'scm'
  properties: {
    allow: false
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'portcullis'
  scope: app
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'FunctionAppLogs'
        enabled: true
      }
    ]
    metrics: [
      {
        category: 'AllMetrics'
        enabled: true
      }
    ]
  }
}

output id string = app.id
output name string = app.name
output hostName string = app.properties.defaultHostName
