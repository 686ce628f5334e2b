// Who is told of what. The log alarms are a list of their own (alarms.json), each
// with a playbook in docs/playbooks.md.

param location string
param tags object
param workspaceId string
param serviceBusId string
param tablesName string
param principalId string

@description('Addresses that get a mail of every alarm.')
param emails array

var alarms = loadJsonContent('../alarms.json')

resource group 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'portcullis'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'portcullis'
    enabled: true
    emailReceivers: [for (email, i) in emails: {
      name: 'email-${i}'
      emailAddress: email
      useCommonAlertSchema: true
    }]
  }
}

resource logAlarms 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [for alarm in alarms: {
  name: 'portcullis-${alarm.name}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Portcullis: ${alarm.title}'
    description: alarm.description
    severity: alarm.severity
    enabled: true
    scopes: [
      workspaceId
    ]
    evaluationFrequency: alarm.every
    windowSize: alarm.window
    autoMitigate: true
    // The tables it asks appear with their first row.
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: replace(replace(alarm.query, '{tablesAccount}', tablesName), '{principalId}', principalId)
          timeAggregation: 'Count'
          operator: alarm.operator
          threshold: alarm.threshold
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        group.id
      ]
    }
  }
}]

resource deadLetters 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: 'portcullis-dead-letters'
  location: 'global'
  tags: tags
  properties: {
    description: 'Messages stay in a dead-letter queue: the functions that empty it do not run.'
    severity: 1
    enabled: true
    scopes: [
      serviceBusId
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.MultipleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'dead-letters'
          metricName: 'DeadletteredMessages'
          timeAggregation: 'Minimum'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'EntityName'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
        }
      ]
    }
    actions: [
      {
        actionGroupId: group.id
      }
    ]
  }
}

// Who is given a right to the record, or changes its account. A deployment sets
// both off.
var watched = [
  {
    name: 'role-assigned'
    operation: 'Microsoft.Authorization/roleAssignments/write'
    description: 'Somebody was given a right in the resource group of Portcullis.'
  }
  {
    name: 'storage-changed'
    operation: 'Microsoft.Storage/storageAccounts/write'
    description: 'A storage account of Portcullis was changed.'
  }
]

resource activityAlarms 'Microsoft.Insights/activityLogAlerts@2020-10-01' = [for item in watched: {
  name: 'portcullis-${item.name}'
  location: 'global'
  tags: tags
  properties: {
    description: item.description
    enabled: true
    scopes: [
      resourceGroup().id
    ]
    condition: {
      allOf: [
        {
          field: 'category'
          equals: 'Administrative'
        }
        {
          field: 'operationName'
          equals: item.operation
        }
        {
          field: 'status'
          equals: 'Succeeded'
        }
      ]
    }
    actions: {
      actionGroups: [
        {
          actionGroupId: group.id
        }
      ]
    }
  }
}]
